// Reads a config.yaml as Continue does, and talks to the server by Continue's own adapters.
//
// node continue.mjs NODE_MODULES CONFIG SECRETS(JSON): prints what came of it as one line of JSON.

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, path, secretsJson] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(`${folder}/@continuedev/${name}/dist/index.js`));
const { parseConfigYaml, unrollAssistantFromContent, validateConfigYaml } =
  await load("config-yaml");
const { constructLlmApi } = await load("openai-adapters");

const text = readFileSync(path, "utf-8");
const complaints = validateConfigYaml(parseConfigYaml(text)).map((each) => each.message);

const secrets = JSON.parse(secretsJson);
const platformClient = {
  resolveFQSNs: async (names) =>
    names.map((fqsn) => ({
      found: true,
      fqsn,
      value: secrets[fqsn.secretName],
      secretLocation: { secretName: fqsn.secretName, secretType: "local-env" },
    })),
};
const id = { uriType: "file", fileUri: pathToFileURL(path).href };
const { config } = await unrollAssistantFromContent(id, text, undefined, {
  renderSecrets: true,
  currentUserSlug: "",
  platformClient,
});

const role = (name) => config.models.find((model) => model.roles?.includes(name));
const api = (model) => constructLlmApi({ ...model, apiBase: `${model.apiBase}/` });
const signal = new AbortController().signal;

async function chat(model) {
  const heard = { thoughts: "", text: "", usage: undefined };
  const body = {
    model: model.model,
    messages: [{ role: "user", content: "What is qwenkit?" }],
    max_tokens: model.defaultCompletionOptions.maxTokens,
    temperature: 0,
    stream: true,
  };
  for await (const chunk of api(model).chatCompletionStream(body, signal)) {
    const delta = chunk.choices?.[0]?.delta;
    heard.thoughts += delta?.reasoning_content ?? "";
    heard.text += delta?.content ?? "";
    heard.usage ??= chunk.usage ?? undefined;
  }
  return heard;
}

async function complete(model) {
  const prompt = model.promptTemplates.autocomplete
    .replace("{{{prefix}}}", "if x > 0:\n    print('posi")
    .replace("{{{suffix}}}", "else:\n    print('negative')");
  const body = { model: model.model, prompt, max_tokens: 64, temperature: 0.01, stream: true };
  const heard = { text: "", finish: undefined };
  for await (const chunk of api(model).completionStream(body, signal)) {
    heard.text += chunk.choices[0]?.text ?? "";
    heard.finish = chunk.choices[0]?.finish_reason ?? heard.finish;
  }
  return heard;
}

async function rerank(model) {
  if (model === undefined) return undefined;
  const documents = ["about cats", "qwenkit serves Qwen3"];
  const found = await api(model).rerank({ model: model.model, query: "qwenkit", documents });
  return found.results.toSorted((a, b) => a.index - b.index).map((each) => each.relevance_score);
}

const embedded = await api(role("embed")).embed({ model: role("embed").model, input: ["a", "b"] });
console.log(
  JSON.stringify({
    complaints,
    config,
    models: (await api(role("chat")).list()).map((each) => each.id),
    chat: await chat(role("chat")),
    edit: await chat(role("edit")),
    complete: await complete(role("autocomplete")),
    widths: embedded.data.map((each) => each.embedding.length),
    scores: await rerank(role("rerank")),
  }),
);
