import type { Access } from "./buffer.ts";

/** The text of `kernels/<name>.wgsl`. It comes from outside, because a browser and Node.js find it differently. */
export type KernelSource = (name: string) => string;

/** What is fixed in a pipeline: the kernel's file, what is put in front of it, and its `override` constants. */
export interface KernelVariant {
  /** Path below `kernels/` without `.wgsl`, such as `attention/forward`. */
  readonly kernel: string;
  /** Directives that the kernel needs, put first: `enable f16`. */
  readonly directives?: readonly string[];
  /** Declarations made by a generator, put in front of the kernel after its prelude. */
  readonly generated?: string;
  /** Files of `kernels/library/` that the kernel calls, put in front of it. */
  readonly library?: readonly string[];
  /** `const` and `alias` lines put in front of the kernel, for what overrides cannot do. */
  readonly prelude?: Readonly<Record<string, string>>;
  /** Values of the kernel's `override` declarations. None has a default, so a forgotten one fails by name. */
  readonly constants?: Readonly<Record<string, number | boolean>>;
}

/** A pipeline that compiles in the background. `value` may be used once `ready` has resolved. */
export interface Pipeline {
  readonly label: string;
  readonly layout: GPUBindGroupLayout;
  readonly ready: Promise<void>;
  readonly value: () => GPUComputePipeline;
}

const LAYOUT_TYPE = {
  read: "read-only-storage",
  readWrite: "storage",
  uniform: "uniform",
} as const satisfies Record<Access, GPUBufferBindingType>;

/** Compiles each kernel variant once. Errors of a shader carry file, line and column, and reject `ready`. */
export class PipelineCache {
  readonly #device: GPUDevice;
  readonly #source: KernelSource;
  readonly #modules = new Map<string, Promise<GPUShaderModule>>();
  readonly #layouts = new Map<string, GPUBindGroupLayout>();
  readonly #pipelines = new Map<string, Pipeline>();
  /** Texts made by generators, numbered: they are long, and a key is made for each dispatch of a plan. */
  readonly #generated = new Map<string, number>();

  constructor(device: GPUDevice, source: KernelSource) {
    this.#device = device;
    this.#source = source;
  }

  get(variant: KernelVariant, accesses: readonly Access[]): Pipeline {
    const key = JSON.stringify([
      variant.kernel,
      variant.directives,
      variant.generated === undefined ? null : this.#generatedNumber(variant.generated),
      variant.library,
      sortedEntries(variant.prelude),
      sortedEntries(variant.constants),
      accesses,
    ]);
    let pipeline = this.#pipelines.get(key);
    if (!pipeline) {
      pipeline = this.#create(variant, accesses);
      this.#pipelines.set(key, pipeline);
    }
    return pipeline;
  }

  /** Waits until every pipeline asked for so far is compiled. */
  async ready(): Promise<void> {
    await Promise.all([...this.#pipelines.values()].map((pipeline) => pipeline.ready));
  }

  get count(): number {
    return this.#pipelines.size;
  }

  #generatedNumber(text: string): number {
    const known = this.#generated.get(text);
    if (known !== undefined) return known;
    this.#generated.set(text, this.#generated.size);
    return this.#generated.size - 1;
  }

  #create(variant: KernelVariant, accesses: readonly Access[]): Pipeline {
    const layout = this.#layout(accesses);
    let compiled: GPUComputePipeline | undefined;
    const compile = async () => {
      const module = await this.#module(variant);
      compiled = await this.#device.createComputePipelineAsync({
        label: variant.kernel,
        layout: this.#device.createPipelineLayout({ bindGroupLayouts: [layout] }),
        compute: { module, entryPoint: "main", constants: numericConstants(variant.constants) },
      });
    };
    const ready = compile();
    ready.catch(() => {}); // Reported by whoever awaits `ready`; never an unhandled rejection before that.
    return {
      label: variant.kernel,
      layout,
      ready,
      value: () => {
        if (!compiled) throw new Error(`internal: pipeline ${variant.kernel} was used before it was ready`);
        return compiled;
      },
    };
  }

  #layout(accesses: readonly Access[]): GPUBindGroupLayout {
    const key = accesses.join();
    let layout = this.#layouts.get(key);
    if (!layout) {
      layout = this.#device.createBindGroupLayout({
        entries: accesses.map((access, binding) => ({
          binding,
          visibility: GPUShaderStage.COMPUTE,
          buffer: { type: LAYOUT_TYPE[access] },
        })),
      });
      this.#layouts.set(key, layout);
    }
    return layout;
  }

  #module(variant: KernelVariant): Promise<GPUShaderModule> {
    const parts = [
      ...(variant.directives ?? []).map((line) => `${line};\n`),
      ...sortedEntries(variant.prelude).map(([declaration, value]) => `${declaration} = ${value};\n`),
      variant.generated ?? "",
      ...(variant.library ?? []).map((name) => this.#source(`library/${name}`)),
    ];
    const front = parts.join("");
    const key = `${variant.kernel}\n${front}`;
    let module = this.#modules.get(key);
    if (!module) {
      module = this.#compileModule(variant.kernel, front);
      this.#modules.set(key, module);
    }
    return module;
  }

  async #compileModule(kernel: string, front: string): Promise<GPUShaderModule> {
    const code = front + this.#source(kernel);
    // The scope takes the error that Dawn reports besides: the compilation info says more, and where.
    this.#device.pushErrorScope("validation");
    const module = this.#device.createShaderModule({ label: kernel, code });
    const scope = this.#device.popErrorScope();
    const { messages } = await module.getCompilationInfo();
    await scope;
    const frontLines = front.split("\n").length - 1;
    const errors = messages.filter((message) => message.type === "error");
    if (errors.length > 0) {
      const lines = errors.map((error) => {
        const place =
          error.lineNum > frontLines
            ? `kernels/${kernel}.wgsl:${error.lineNum - frontLines}:${error.linePos}`
            : `in front of kernels/${kernel}.wgsl, line ${error.lineNum}`;
        return `${place}: ${error.message}\n    ${code.split("\n")[error.lineNum - 1] ?? ""}`;
      });
      throw new Error(`internal: shader error\n${lines.join("\n")}`);
    }
    return module;
  }
}

function sortedEntries<T>(record: Readonly<Record<string, T>> | undefined): [string, T][] {
  return Object.entries(record ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
}

function numericConstants(constants: KernelVariant["constants"]): Record<string, number> {
  return Object.fromEntries(Object.entries(constants ?? {}).map(([name, value]) => [name, Number(value)]));
}
