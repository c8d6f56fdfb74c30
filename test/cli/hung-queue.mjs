// Run by hung-queue.test.ts: a command whose kernel never ends, on the device that is named.
import { runCommand } from "../../dist/cli/run-command.js";
import { wholeBuffer } from "../../dist/gpu/buffer.js";
import { openDevice } from "../../dist/platform/dawn.js";
import { createTerminal } from "../../dist/terminal.js";

const ENDLESS = `
@group(0) @binding(0) var<storage, read_write> y: array<atomic<u32>>;
@compute @workgroup_size(1)
fn main() {
  loop {
    if (atomicAdd(&y[0], 1u) == 0xffffffffu && atomicLoad(&y[1]) == 1u) {
      break;
    }
  }
}`;

await runCommand({ terminal: createTerminal() }, async () => {
  const opened = await openDevice({ device: process.argv[2] });
  try {
    const { gpu } = opened;
    const y = wholeBuffer(gpu.buffer("y", 16));
    const module = gpu.device.createShaderModule({ code: ENDLESS });
    const pipeline = gpu.device.createComputePipeline({ layout: "auto", compute: { module } });
    const layout = pipeline.getBindGroupLayout(0);
    const encoder = gpu.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, gpu.device.createBindGroup({ layout, entries: [{ binding: 0, resource: { buffer: y.buffer.raw } }] }));
    pass.dispatchWorkgroups(1);
    pass.end();
    gpu.device.queue.submit([encoder.finish()]);
    await gpu.read(y);
  } finally {
    opened.close();
  }
});
