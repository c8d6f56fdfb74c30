// The part of JSON Schema (draft 2020-12) that configs/schema.json uses, by its specification and nothing of ours.

type Schema = boolean | Readonly<Record<string, unknown>>;

/** Whether a value is valid by a schema, or by the part of it at `part`. @throws Error at a keyword that it does not know */
export function isValid(root: Schema, value: unknown, part: Schema = root): boolean {
  if (typeof part === "boolean") return part;
  return Object.entries(part).every(([keyword, argument]) => {
    if (ANNOTATIONS.has(keyword)) return true;
    const check = KEYWORDS[keyword];
    if (!check) throw new Error(`the keyword ${keyword} is not known`);
    return check(argument as never, value, (schema, inner) => isValid(root, inner, schema), { root, part });
  });
}

type Check = (schema: Schema, value: unknown) => boolean;
interface Around {
  readonly root: Schema;
  readonly part: Readonly<Record<string, unknown>>;
}

const ANNOTATIONS = new Set(["$schema", "$defs", "title", "description", "default", "then"]);

const ofNumbers = (holds: (value: number, bound: number) => boolean) => (bound: never, value: unknown) =>
  typeof value !== "number" || holds(value, bound);
const ofLists = (holds: (value: readonly unknown[], bound: number) => boolean) => (bound: never, value: unknown) =>
  !Array.isArray(value) || holds(value, bound);

const KEYWORDS: Readonly<Record<string, (argument: never, value: unknown, check: Check, around: Around) => boolean>> = {
  type: (type: string, value) => (type === "integer" ? Number.isInteger(value) : typeOf(value) === type),
  const: (constant: unknown, value) => constant === value,
  enum: (values: readonly unknown[], value) => values.includes(value),
  minimum: ofNumbers((value, bound) => value >= bound),
  maximum: ofNumbers((value, bound) => value <= bound),
  exclusiveMinimum: ofNumbers((value, bound) => value > bound),
  exclusiveMaximum: ofNumbers((value, bound) => value < bound),
  minLength: (least: number, value) => typeof value !== "string" || [...value].length >= least,
  pattern: (pattern: string, value) => typeof value !== "string" || new RegExp(pattern, "u").test(value),
  minItems: ofLists((value, least) => value.length >= least),
  maxItems: ofLists((value, most) => value.length <= most),
  uniqueItems: ofLists((value) => new Set(value.map((item) => JSON.stringify(item))).size === value.length),
  items: (schema: Schema, value, check) => !Array.isArray(value) || value.every((item) => check(schema, item)),
  minProperties: (least: number, value) => !isMap(value) || Object.keys(value).length >= least,
  required: (keys: readonly string[], value) => !isMap(value) || keys.every((key) => Object.hasOwn(value, key)),
  properties: (schemas: Record<string, Schema>, value, check) =>
    !isMap(value) ||
    Object.entries(schemas).every(([key, schema]) => !Object.hasOwn(value, key) || check(schema, value[key])),
  additionalProperties: (schema: Schema, value, check, { part }) => {
    const known = Object.keys((part.properties as object | undefined) ?? {});
    return !isMap(value) || Object.keys(value).every((key) => known.includes(key) || check(schema, value[key]));
  },
  anyOf: (schemas: readonly Schema[], value, check) => schemas.some((schema) => check(schema, value)),
  allOf: (schemas: readonly Schema[], value, check) => schemas.every((schema) => check(schema, value)),
  oneOf: (schemas: readonly Schema[], value, check) => schemas.filter((schema) => check(schema, value)).length === 1,
  not: (schema: Schema, value, check) => !check(schema, value),
  if: (schema: Schema, value, check, { part }) => !check(schema, value) || check(part.then as Schema, value),
  $ref: (reference: string, value, check, { root }) => {
    const [, ...steps] = reference.split("/");
    const target = steps.reduce<unknown>((node, step) => (isMap(node) ? node[step] : undefined), root);
    if (target === undefined) throw new Error(`${reference} leads nowhere`);
    return check(target as Schema, value);
  },
};

function typeOf(value: unknown): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "array" : typeof value;
}

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeOf(value) === "object";
}
