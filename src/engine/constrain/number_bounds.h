// Numbers of a JSON schema between bounds.
#pragma once

#include <vector>

#include "engine/constrain/json_grammar.h"
#include "engine/constrain/schema_document.h"

namespace vl2 {

// Exact in both directions for integers (of at most 18 digits, where a side has no bound). Other numbers are written
// with up to 6 digits behind the point, or as many as the bounds have (at most 9), 15 in all, so that each is told
// apart from the bound in double precision as well. kInvalidArgument: bounds that need more digits than that.
void add_bounded_number(GrammarBuilder& builder, JsonGrammar& json, GrammarBuilder::StateId from,
                        GrammarBuilder::StateId to, const std::vector<FlatSchema::Bound>& bounds, bool integer);

}  // namespace vl2
