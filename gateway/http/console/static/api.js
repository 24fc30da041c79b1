// The gateway's own routes, with the operator's key. The key stays in this tab: sessionStorage, and the header it is for.

const STORED = "thinktwice.key";

export const key = {
  get: () => sessionStorage.getItem(STORED),
  set: (value) => sessionStorage.setItem(STORED, value),
  forget: () => sessionStorage.removeItem(STORED),
};

/** An answer that is an error object, as the gateway or the engine wrote it; `body` is the whole of it. */
export class ApiError extends Error {
  constructor(status, body, requestId = null) {
    const error = body?.error ?? {};
    super(error.message ?? `the gateway answered ${status}`);
    Object.assign(this, { status, body, code: error.code, param: error.param, requestId });
  }
}

/** The JSON of a route. Throws `ApiError`, or what `fetch` throws when nothing answers. */
export async function api(path, { body, signal } = {}) {
  return (await send(path, body, signal)).json();
}

/** The events of a streamed answer. Throws `ApiError` also for an error that comes after the first byte. */
export async function* events(path, body, signal) {
  const response = await send(path, body, signal);
  let text = "";
  for await (const piece of pieces(response.body.pipeThrough(new TextDecoderStream()).getReader())) {
    const lines = (text + piece).split("\n");
    text = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ") || line === "data: [DONE]") continue; // comments keep the connection alive
      const event = JSON.parse(line.slice("data: ".length));
      if (event.error) throw new ApiError(response.status, event, response.headers.get("X-Request-Id"));
      yield event;
    }
  }
}

async function* pieces(reader) {
  for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
}

async function send(path, body, signal) {
  const headers = key.get() ? { Authorization: `Bearer ${key.get()}` } : {};
  const options = { headers, signal, cache: "no-store", credentials: "omit", redirect: "error" };
  if (body !== undefined) {
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
    headers["Content-Type"] = "application/json";
  }
  const response = await fetch(path, options);
  if (response.ok) return response;
  throw new ApiError(response.status, await response.json().catch(() => null), response.headers.get("X-Request-Id"));
}
