import { expect, it } from "vitest";
import {
  F_DIVERGENCE_LOSS_TYPES,
  F_DIVERGENCE_TYPES,
  LABEL_SMOOTHING_LOSS_TYPES,
  LABEL_SMOOTHING_REQUIRED_LOSS_TYPES,
  LOSS_TYPES,
} from "../../src/config/losses.ts";

it("has TRL 1.13's losses and divergences", () => {
  expect(LOSS_TYPES.toSorted()).toEqual([
    "aot",
    "aot_unpaired",
    "apo_down",
    "apo_zero",
    "bco_pair",
    "discopop",
    "exo_pair",
    "hinge",
    "ipo",
    "nca_pair",
    "robust",
    "sft",
    "sigmoid",
    "sigmoid_norm",
    "sppo_hard",
  ]);
  expect(F_DIVERGENCE_TYPES).toEqual(["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"]);
});

it("allows f-divergences where TRL does", () => {
  const trl = ["sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft"];
  expect(F_DIVERGENCE_LOSS_TYPES.toSorted()).toEqual(trl.toSorted());
});

it("knows which losses read label smoothing and which need it", () => {
  expect(LABEL_SMOOTHING_LOSS_TYPES.toSorted()).toEqual(["aot", "aot_unpaired", "exo_pair", "robust", "sigmoid"]);
  expect(LABEL_SMOOTHING_REQUIRED_LOSS_TYPES).toEqual(["exo_pair"]);
});
