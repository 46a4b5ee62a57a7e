// Searches the table of documents.sql as a signed-in user, with supabase-js and OpenAI's client.
//
//   export SUPABASE_URL=... SUPABASE_ANON_KEY=... EMBEDDING_API_URL=http://127.0.0.1:8000
//   EMAIL=... PASSWORD=... node search_openai.ts "How is bread made?"
import process from "node:process";
import { createClient } from "@supabase/supabase-js";
import OpenAI from "openai";

const { SUPABASE_URL, SUPABASE_ANON_KEY, EMBEDDING_API_URL, EMAIL, PASSWORD } = process.env;
const question = process.argv[2];

const supabase = createClient(SUPABASE_URL!, SUPABASE_ANON_KEY!);
const signIn = await supabase.auth.signInWithPassword({ email: EMAIL!, password: PASSWORD! });
if (signIn.error) throw signIn.error;

const openai = new OpenAI({
  baseURL: `${EMBEDDING_API_URL}/v1`,
  // Asked for before each request: supabase-js renews the token before it expires.
  apiKey: async () => (await supabase.auth.getSession()).data.session!.access_token,
});
const names = (await openai.models.list()).data.map((model) => model.id);
const model = names.find((name) => name.endsWith("-query")) ?? names[0]; // with the query's prompt
const { data: answer, response } = await openai.embeddings
  .create({ model, input: question })
  .withResponse();

const { data: found, error } = await supabase.rpc("search_documents", {
  query: JSON.stringify(answer.data[0].embedding),
  match_count: 5,
  space: response.headers.get("X-Embedding-Fingerprint"), // leaves vectors of other models out
});
if (error) throw error;
for (const { similarity, body } of found) console.log(similarity.toFixed(3), body);
