// What the server says of itself: /props, /slots, /api/pull and the whole of /metrics.
#include <thread>

#include "apps/server/server_test.h"

namespace vl2::server {
namespace {

json long_story() {
  json body = chat("Tell me a secret story.");
  body["max_tokens"] = 3000;
  body["ignore_eos"] = true;
  body["stream"] = true;
  return body;
}

TEST(Props, SayWhatIsServed) {
  TestServer server;
  const json props = server.get("/props").parsed();
  EXPECT_EQ(props.at("model"), "nano");
  EXPECT_EQ(props.at("default_generation_settings").at("n_ctx"), server.engine->max_context());
  EXPECT_EQ(props.at("total_slots"), 8);
  EXPECT_EQ(props.at("chat_template"), "deepseek");
  EXPECT_EQ(props.at("modalities"), json({{"vision", true}, {"audio", false}}));
  EXPECT_EQ(props.at("backend"), server.engine->backend());
  EXPECT_TRUE(props.at("build_info").get<std::string>().starts_with("vl2 "));
  EXPECT_EQ(server.get("/v1/props").parsed(), props);
}

TEST(Slots, ShowWhatRunsAndNoTexts) {
  ServerOptions options;
  options.parallel = 1;
  TestServer server(options);
  const json idle = server.get("/slots").parsed();
  EXPECT_EQ(idle, json::array({{{"id", 0},
                                {"is_processing", false},
                                {"n_ctx", server.engine->max_context()},
                                {"n_prompt_tokens", 0},
                                {"n_prefilled", 0},
                                {"n_decoded", 0},
                                {"n_remain", 0}}}));
  EXPECT_EQ(server.get("/slots?fail_on_no_slot=1").status, 200);
  TestClient client(server.port());
  client.send(TestClient::text_of("POST", "/v1/chat/completions", long_story().dump(), {}));
  ASSERT_TRUE(client.wait_for("\"content\":\"\"") && client.wait_for("chunk"));
  HttpReply busy = server.get("/slots");
  for (int i = 0; i < 1000 && busy.parsed().at(0).at("n_decoded") == 0; ++i) busy = server.get("/slots");
  const json slot = busy.parsed().at(0);
  EXPECT_EQ(slot.at("is_processing"), true);
  EXPECT_GT(slot.at("n_decoded"), 0);
  EXPECT_EQ(slot.at("n_decoded").get<int64_t>() + slot.at("n_remain").get<int64_t>(), 3000);
  EXPECT_EQ(slot.at("n_prefilled"), slot.at("n_prompt_tokens"));
  EXPECT_EQ(busy.body.find("secret"), std::string::npos);
  const HttpReply full = server.get("/slots?other=2&fail_on_no_slot=1");
  EXPECT_EQ(full.status, 503);
  EXPECT_EQ(full.error("type"), "unavailable_error");
  EXPECT_EQ(server.get("/slots?fail_on_no_slot=0").status, 200);
  client.close();
  server.watch.wait(1);
  json after = server.get("/slots").parsed();
  for (int i = 0; i < 1000 && after != idle; ++i) after = server.get("/slots").parsed();
  EXPECT_EQ(after, idle);
}

TEST(Pull, FindsWhatIsServed) {
  TestServer server;
  const HttpReply stream = server.post("/api/pull", {{"model", "nano:latest"}});
  ASSERT_EQ(stream.status, 200) << stream.body;
  EXPECT_TRUE(stream.headers.at("content-type").starts_with("application/x-ndjson"));
  std::vector<std::string> said;
  for (size_t at = 0; at < stream.body.size(); at = stream.body.find('\n', at) + 1)
    said.push_back(json::parse(stream.body.substr(at, stream.body.find('\n', at) - at)).at("status"));
  ASSERT_GE(said.size(), 2u);
  EXPECT_EQ(said.front(), "pulling manifest");
  EXPECT_EQ(said.back(), "success");
  const HttpReply whole = server.post("/api/pull", {{"name", "nano"}, {"stream", false}});
  EXPECT_EQ(whole.parsed(), json({{"status", "success"}}));
  const HttpReply other = server.post("/api/pull", {{"model", "llava"}});
  EXPECT_EQ(other.status, 404);
  EXPECT_TRUE(other.parsed().at("error").is_string());
  EXPECT_EQ(server.post("/api/pull", json::object()).status, 400);
}

TEST(MetricsPage, HasEveryNumberThatDashboardsAskFor) {
  TestServer server;
  const GoldenCase one = golden_cases().at(0);
  for (int i = 0; i < 2; ++i) ASSERT_EQ(server.post("/v1/chat/completions", golden_chat(one)).status, 200);
  const std::string text = server.get("/metrics").body;
  const auto value = [&](const std::string& name) {
    const size_t at = text.find("\n" + name + " ");
    EXPECT_NE(at, std::string::npos) << name;
    return at == std::string::npos ? -1 : std::stod(text.substr(at + name.size() + 2));
  };
  for (const char* name :
       {"vl2_requests_running", "vl2_requests_waiting", "vl2_kv_cache_usage_ratio", "vl2_request_duration_seconds_sum",
        "vl2_inter_token_latency_seconds_count", "vl2_drafted_tokens_total", "vl2_accepted_tokens_total"})
    EXPECT_GE(value(name), 0) << name;
  for (const char* name :
       {"vl2_prompt_tokens_total", "vl2_generated_tokens_total", "vl2_image_tokens_total", "vl2_vision_seconds_total",
        "vl2_forward_seconds_total", "vl2_prefix_cache_queries_total", "vl2_prefix_cache_hits_total",
        "vl2_image_cache_queries_total", "vl2_image_cache_bytes", "vl2_tile_cache_bytes",
        "vl2_time_to_first_token_seconds_count", "process_cpu_seconds_total", "process_resident_memory_bytes",
        "process_virtual_memory_bytes", "process_open_fds", "process_max_fds", "process_threads"})
    EXPECT_GT(value(name), 0) << name;
  EXPECT_GE(value("vl2_image_cache_hits_total"), 0);
  EXPECT_EQ(value("vl2_tile_cache_queries_total"), 2);
  EXPECT_EQ(value("vl2_tile_cache_hits_total"), 1);
  EXPECT_GE(value("process_virtual_memory_bytes"), value("process_resident_memory_bytes"));
  const auto now = static_cast<double>(std::time(nullptr));
  EXPECT_LE(value("process_start_time_seconds"), now + 2);
  EXPECT_GE(value("process_start_time_seconds"), now - 86'400);
}

}  // namespace
}  // namespace vl2::server
