// What a program with the official openai SDK for Node sees of a gateway.
// usage: node client.mjs SDK_FOLDER BASE_URL; prints one JSON object, a result by scenario.
import { createRequire } from "node:module";

const [folder, baseURL] = process.argv.slice(2);
const { OpenAI, BadRequestError, NotFoundError, UnprocessableEntityError } = createRequire(`${folder}/`)("openai");

const client = new OpenAI({ baseURL, apiKey: "unused", maxRetries: 0 });
const ask = (text, fields = {}) => ({ model: "champion", messages: [{ role: "user", content: text }], ...fields });
const create = (text, fields) => client.chat.completions.create(ask(text, fields));
const tools = [{ type: "function", function: { name: "add", parameters: { type: "object" } } }];
const verification = { checks: [{ type: "numeric", reference: 4 }] };

async function chunksOf(text, fields) {
  const chunks = [];
  for await (const chunk of await create(text, { ...fields, stream: true })) chunks.push(chunk);
  return chunks;
}

async function refused(kind, asking) {
  try {
    await asking;
  } catch (error) {
    if (!(error instanceof kind)) throw error;
    const { status, code, type, param, requestID } = error;
    return { status, code, type, param, named: Boolean(requestID) };
  }
  throw new Error("it was not refused");
}

const scenarios = {
  async whole() {
    const answer = await create("The capital?");
    return { ...answer.choices[0].message, model: answer.model, status: answer.verification.status };
  },
  async streamed() {
    const chunks = await chunksOf("The capital, streamed?", { stream_options: { include_usage: true } });
    return {
      text: chunks.flatMap((chunk) => chunk.choices).map((choice) => choice.delta.content ?? "").join(""),
      usage: chunks.at(-1).usage,
      verdict: chunks.at(-2).verification.route,
    };
  },
  async accumulated() {
    const stream = client.chat.completions.stream(ask("add them, streamed", { tools }));
    const message = await stream.finalMessage();
    return { content: message.content, calls: message.tool_calls };
  },
  async tools() {
    const [choice] = (await create("add them", { tools, tool_choice: "auto" })).choices;
    return { content: choice.message.content, calls: choice.message.tool_calls, end: choice.finish_reason };
  },
  async votedTools() {
    const answer = await create("add them, voted", { tools, reasoning_effort: "high" });
    const { status, votes, samples } = answer.verification;
    const [{ message, finish_reason: end }] = answer.choices;
    return { content: message.content, calls: message.tool_calls, end, status, votes, samples };
  },
  async votedToolsStreamed() {
    const stream = client.chat.completions.stream(ask("add them, voted", { tools, reasoning_effort: "high" }));
    const { content, tool_calls: calls } = await stream.finalMessage();
    return { content, calls };
  },
  async verified() {
    const answer = await create("escalate", { verification });
    return { text: answer.choices[0].message.content, ...answer.verification, checks: answer.verification.checks.length };
  },
  async votedStream() {
    const chunks = await chunksOf("slow", { verification, reasoning_effort: "high" });
    return { text: chunks[0].choices[0].delta.content, status: chunks.at(-1).verification.status };
  },
  unverified: () =>
    refused(UnprocessableEntityError, create("hopeless", { verification: { ...verification, on_failure: "error" } })),
  unknownField: () => refused(BadRequestError, create("The capital?", { frobnicate: 1 })),
  unknownModel: () => refused(NotFoundError, create("The capital?", { model: "gpt-9" })),
  refusedByTheEngine: () => refused(BadRequestError, create("refused")),
  async brokenStream() {
    try {
      await chunksOf("breaks");
    } catch (error) {
      return { name: error.constructor.name, message: error.message };
    }
    throw new Error("the stream did not break");
  },
  async models() {
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    return names;
  },
  async others() {
    const completion = await client.completions.create({ model: "champion", prompt: "The capital?" });
    const embedding = await client.embeddings.create({ model: "champion", input: "x", encoding_format: "float" });
    return { text: completion.choices[0].text, vector: embedding.data[0].embedding };
  },
};

const results = {};
for (const [name, scenario] of Object.entries(scenarios)) results[name] = await scenario();
console.log(JSON.stringify(results));
