// Searches the table of documents.sql as a signed-in user, with supabase-js and Vercel's AI SDK.
//
//   export SUPABASE_URL=... SUPABASE_ANON_KEY=... EMBEDDING_API_URL=http://127.0.0.1:8000
//   export EMBEDDING_MODEL=google/embeddinggemma-300m-query
//   EMAIL=... PASSWORD=... node search_ai_sdk.ts "How is bread made?"
import process from "node:process";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { createClient } from "@supabase/supabase-js";
import { embed } from "ai";

const { SUPABASE_URL, SUPABASE_ANON_KEY, EMBEDDING_API_URL, EMAIL, PASSWORD } = process.env;
const model = process.env.EMBEDDING_MODEL ?? "sentence-transformers/all-MiniLM-L6-v2";
const question = process.argv[2];

const supabase = createClient(SUPABASE_URL!, SUPABASE_ANON_KEY!);
const signIn = await supabase.auth.signInWithPassword({ email: EMAIL!, password: PASSWORD! });
if (signIn.error) throw signIn.error;

const provider = createOpenAICompatible({
  name: "embedding-api",
  baseURL: `${EMBEDDING_API_URL}/v1`,
  // Asked for before each request: supabase-js renews the token before it expires.
  apiKey: async () => (await supabase.auth.getSession()).data.session!.access_token,
});
const { embedding, response } = await embed({
  model: provider.embeddingModel(model),
  value: question,
});

const { data: found, error } = await supabase.rpc("search_documents", {
  query: JSON.stringify(embedding),
  match_count: 5,
  space: response?.headers?.["x-embedding-fingerprint"], // leaves vectors of other models out
});
if (error) throw error;
for (const { similarity, body } of found) console.log(similarity.toFixed(3), body);
