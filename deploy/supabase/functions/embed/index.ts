// Fills columns that `jobs.embed_table --setup` has set up: claims waiting rows, posts their texts to
// the service and hands the answers back to the database, which writes the vectors.
import { createHash, timingSafeEqual } from "node:crypto";
import { createClient } from "@supabase/supabase-js";

const WORK_MS = 60_000; // no request begins later: a call ends within 150 s on the free plan
const REQUEST_MS = 60_000;

interface Post {
  post: number;
  headers: Record<string, string>;
  body: unknown;
}

interface End {
  status?: number;
  retry_after?: string | null;
  content?: string;
  error?: string;
}

function required(name: string): string {
  const value = Deno.env.get(name);
  if (!value) {
    throw new Error(`${name} is not set: supabase secrets set ${name}=...`);
  }
  return value;
}

// Older projects have no secret keys yet.
function projectKey(): string {
  const keys = JSON.parse(Deno.env.get("SUPABASE_SECRET_KEYS") ?? "{}");
  return keys.default ?? required("SUPABASE_SERVICE_ROLE_KEY");
}

const url = required("EMBEDDING_API_URL").replace(/\/+$/, "") + "/batch-embed";
const serviceKey = Deno.env.get("EMBEDDING_API_KEY") || projectKey();
const secret = required("EMBED_FUNCTION_SECRET");
const database = createClient(required("SUPABASE_URL"), projectKey(), {
  auth: { persistSession: false, autoRefreshToken: false },
});

async function rpc<Result>(name: string, values: object): Promise<Result> {
  const { data, error } = await database.rpc(name, values);
  if (error) throw new Error(`${name}: ${error.message}`);
  return data as Result;
}

async function send({ headers, body }: Post): Promise<End> {
  try {
    const answer = await fetch(url, {
      method: "POST",
      headers: { ...headers, Authorization: `Bearer ${serviceKey}` },
      body: JSON.stringify(body),
      redirect: "error", // the key goes to no other host
      signal: AbortSignal.timeout(REQUEST_MS),
    });
    return {
      status: answer.status,
      retry_after: answer.headers.get("Retry-After"),
      content: await answer.text(),
    };
  } catch (error) {
    return { error: String(error) };
  }
}

async function fill(): Promise<void> {
  const end = Date.now() + WORK_MS;
  while (Date.now() < end) {
    const post = await rpc<Post | null>("embedding_api_claim", {});
    if (post === null) return;
    await rpc("embedding_api_finish", {
      post: post.post,
      ...(await send(post)),
    });
  }
}

function isCaller(request: Request): boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  const given = request.headers.get("Authorization") ?? "";
  return timingSafeEqual(digest(given), digest(`Bearer ${secret}`));
}

Deno.serve((request) => {
  if (!isCaller(request)) {
    return Response.json({
      error: "send Authorization: Bearer EMBED_FUNCTION_SECRET",
    }, {
      status: 401,
    });
  }
  const work = fill().catch((error) => console.error(String(error)));
  // The runtime of Supabase ends after the answer unless it is told to wait.
  (globalThis as { EdgeRuntime?: { waitUntil(work: Promise<void>): void } })
    .EdgeRuntime?.waitUntil(work);
  return new Response(null, { status: 202 });
});
