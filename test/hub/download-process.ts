/** Resolves the model named on the command line, as another process would, and prints where it is. */
import { resolveModel } from "../../src/hub/resolve.ts";

const model = await resolveModel(process.argv[2] ?? "", { onNotice: (message) => console.log(message) });
console.log(`${model.source} ${model.folder}`);
