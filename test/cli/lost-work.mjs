import { Gpu } from "../../dist/gpu/gpu.js";
import { withFaultyQueue } from "../gpu/faulty-queue.mjs";

// Imported before the command line: of the command buffers named LOST_WORK the device loses the one of number LOST_AT.

const { submit } = Gpu.prototype;
let seen = 0;
let isLost = false;
Gpu.prototype.submit = function (...recorded) {
  if (!this.isFaulty) Object.assign(this, { isFaulty: true, device: withFaultyQueue(this.device, () => isLost) });
  isLost = recorded.some(({ label }) => label === process.env.LOST_WORK && seen++ === Number(process.env.LOST_AT));
  submit.apply(this, recorded);
  isLost = false;
};
