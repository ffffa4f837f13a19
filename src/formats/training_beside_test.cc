// What trainers leave beside a model, as inspect shows it.
#include "formats/training_beside.h"

#include "formats/outputs.h"
#include "formats/samples_testing.h"

namespace ingot {
namespace {

using namespace ingot::testing;

class TrainingBesides : public Samples {
 protected:
  static TrainingBeside at(Store& store, const std::string& path) {
    const auto p = look_at(store, path);
    EXPECT_TRUE(p.ok());
    return training_beside(store, *p);
  }
  static std::string said(const TrainingBeside& t) { return fmt::format("{}", fmt::join(t.notices, "\n")); }
};

TEST_F(TrainingBesides, OfTheTrainer) {
  ASSERT_TRUE(begin("hf-trainer-bf16"));
  const auto store = make_memory_store();
  for (const char* name : {"optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"})
    put_file(*store, fmt::format("m/{}", name), get_file(local_store(), folder_ + "/checkpoint-3/" + name));
  const std::string state = "{\"global_step\": 3, \"epoch\": 0.75, \"best_metric\": null, \"best_model_checkpoint\": \"x/checkpoint-2\", \"log_history\": [{\"step\": 1}]}";
  put_file(*store, "m/trainer_state.json", state);
  auto t = at(*store, "m");
  EXPECT_EQ(said(t), "");
  EXPECT_EQ(t.values, (std::map<std::string, std::string>{{"step", "3"}, {"epoch", "0.75"}, {"best_checkpoint", "\"x/checkpoint-2\""}, {"optimizer_step", "3"}}));
  EXPECT_EQ(t.files, (std::map<std::string, std::vector<std::string>>{{"optimizer", {"optimizer.pt"}}, {"scheduler", {"scheduler.pt"}}, {"random numbers", {"rng_state.pth"}},
                                                                       {"state", {"trainer_state.json"}}, {"arguments", {"training_args.bin"}}}));
  put_file(*store, "m/trainer_state.json", "{\"global_step\": 4}");
  EXPECT_NE(said(at(*store, "m")).find("m: the optimizer in optimizer.pt has taken 3 steps, but trainer_state.json is of step 4"), std::string::npos) << said(at(*store, "m"));
  put_file(*store, "m/trainer_state.json", state.substr(0, 40));
  EXPECT_NE(said(at(*store, "m")).find("the model is read without it: reading m/trainer_state.json"), std::string::npos) << said(at(*store, "m"));
  put_file(*store, "m/optimizer.pt", "PK\3\4");
  EXPECT_NE(said(at(*store, "m")).find("the model is read without it: reading m/optimizer.pt"), std::string::npos) << said(at(*store, "m"));
  ASSERT_TRUE(store->remove("m/optimizer.pt").ok());
  EXPECT_NE(said(at(*store, "m")).find("there is no optimizer.pt beside trainer_state.json"), std::string::npos) << said(at(*store, "m"));
  // Where DeepSpeed or FSDP has the optimizer, it is there.
  put_file(*store, "m/global_step3/mp_rank_00_model_states.pt", "x");
  t = at(*store, "m");
  EXPECT_EQ(t.files.at("optimizer"), std::vector<std::string>{"global_step3"});
  EXPECT_EQ(said(t).find("there is no optimizer.pt"), std::string::npos) << said(t);
}

TEST_F(TrainingBesides, OfAScript) {
  ASSERT_TRUE(begin("plain-script"));
  auto t = at(local_store(), folder_ + "/checkpoint-3");
  EXPECT_EQ(t.values, (std::map<std::string, std::string>{{"step", "3"}, {"epoch", "0"}, {"best_loss", "3.0057783126831055"}, {"optimizer_step", "3"}}));
  EXPECT_EQ(said(t), "");
  // The optimizer of another step.
  const auto store = make_memory_store();
  Artifact a;
  a.tensors = {{"state/0/step", f32_tensor({}, {2})}, {"state/0/exp_avg", f32_tensor({1}, {0})}};
  write_output(*make_output(a, *store, "m/optimizer.pt", "torch"));
  put_file(*store, "m/training_state.pt", get_file(local_store(), folder_ + "/checkpoint-3/training_state.pt"));
  t = at(*store, "m");
  EXPECT_NE(said(t).find("the optimizer in optimizer.pt has taken 2 steps, but training_state.pt is of step 3"), std::string::npos) << said(t);
  // Who was unfrozen later has taken fewer steps.
  a.tensors.push_back({"state/1/step", f32_tensor({}, {3})}), a.tensors.push_back({"state/1/exp_avg", f32_tensor({1}, {0})});
  write_output(*make_output(a, *store, "later/optimizer.pt", "torch"));
  put_file(*store, "later/training_state.pt", get_file(local_store(), folder_ + "/checkpoint-3/training_state.pt"));
  EXPECT_EQ(said(at(*store, "later")), "");
  put_file(*store, "n/model.safetensors", "x");
  EXPECT_TRUE(at(*store, "n").files.empty());
}

}  // namespace
}  // namespace ingot
