// Which columns of its matrices a model feels: root mean squares of what each is multiplied with, over conversations.
// For quantising: an error weighs by what it meets (docs/quantized_format.md).
//
// Owns the model; borrows the Ops, whose input tap it is. One thread.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/model_spec/format_plan.h"
#include "engine/model/sequence_runner.h"

namespace vl2 {

// Sums over the rows that matrices meet. A matrix is known by its storage.
class InputSquares : public InputTap {
 public:
  void watch(const std::string& tensor, const Weight& matrix);
  void input(const Weight& matrix, Tensor x) override;

  // Root mean squares by tensor. A routed expert that met few tokens takes after all those of its layer: gate and up
  // after what these were multiplied with, down, whose columns are its own, after no column in particular.
  std::map<std::string, std::vector<float>> importance() const;

 private:
  struct Sum {
    std::vector<double> squares;
    double rows = 0;
  };
  std::map<std::string, Sum> sums_;
  std::unordered_map<const WeightStorage*, Sum*> by_storage_;
};

class Calibration {
 public:
  // `format`: of the quantised model; inputs are kept of matrices that it stores in 4 bits.
  Calibration(const ModelConfig& config, ModelFormat format, Ops& ops, WeightSource& source,
              const BindProgress& progress = {});
  ~Calibration();
  Calibration(const Calibration&) = delete;
  Calibration& operator=(const Calibration&) = delete;

  // Runs a conversation with its pictures, in chunks. kCancelled.
  void run(SequenceInput conversation, const std::function<bool()>& cancelled = {});

  std::map<std::string, std::vector<float>> importance() const { return squares_.importance(); }

 private:
  MatrixBound watch(const ModelConfig& config, ModelFormat format);

  InputSquares squares_;
  Ops& ops_;
  const DeepseekVl2 model_;
};

}  // namespace vl2
