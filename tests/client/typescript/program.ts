// What an application in TypeScript writes: every call and every field is checked against /openapi.json.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };
const address = process.argv[2] as string;
const client = createClient<paths>({ baseUrl: address });
type Problem = components["schemas"]["Problem"];

const { data: listed } = await client.GET("/v1/models");
console.log(listed!.models.filter((model) => model.name === "diabetes").map((model) => model.task));

const { data: known } = await client.GET("/v1/models/{name}", { params: { path: { name: "diabetes" } } });
console.log(known!.version, known!.default_samples);

const inputs = [[0.04, 0.05, 0.06, 0.02, -0.04, -0.03, -0.04, 0.0, 0.02, -0.02]];
const { data: answer } = await client.POST("/v1/models/{name}/sample", {
  params: { path: { name: "diabetes" }, header: { "X-Deadline-Ms": 5000 } },
  body: { inputs, samples: 100, seed: 7, quantiles: [0.05, 0.95] },
});
if (answer && "mean" in answer) {
  const mean: number | null = answer.mean[0]![0]!;
  console.log(mean!.toFixed(3), answer.interval.kind, Object.keys(answer.quantiles!));
}

const { data: classified } = await client.POST("/v1/models/{name}/predict", {
  params: { path: { name: "breast-cancer" } },
  body: { inputs: [new Array<number>(30).fill(1)] },
});
if (classified && "labels" in classified) console.log(classified.labels.length);

const { error, response } = await client.POST("/v1/models/{name}/versions/{version}/predict", {
  params: { path: { name: "diabetes", version: "1" } },
  body: { inputs: [[1, 2]] },
});
const problem: Problem = error!;
console.log(response.status, problem.errors![0]!.field);

// What is misspelt, or of another type, does not compile.
// @ts-expect-error
void (() => client.GET("/v1/modles"));
// @ts-expect-error
const misspelt: components["schemas"]["SampleRequest"] = { inputs, sed: 7 };
void misspelt;
// @ts-expect-error
void (() => client.POST("/v1/models/{name}/sample", { params: { path: { name: "m" } }, body: { inputs, seed: "7" } }));
// @ts-expect-error
void (() => client.POST("/v1/models/{name}/predict", { params: { path: { name: "m" } }, body: {} }));
