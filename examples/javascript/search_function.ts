// An Edge Function that searches the table of documents.sql for its caller, so that a page needs
// one call: supabase.functions.invoke("search", { body: { question } }). The caller's own token
// embeds the question and decides which rows are found.
//
//   deno run --allow-env --allow-net search_function.ts
import { createClient } from "@supabase/supabase-js";
import { corsHeaders } from "@supabase/supabase-js/cors";

const SUPABASE_URL = Deno.env.get("SUPABASE_URL")!;
const SUPABASE_ANON_KEY = Deno.env.get("SUPABASE_ANON_KEY")!;
const EMBEDDING_API_URL = Deno.env.get("EMBEDDING_API_URL")!;
const task = Deno.env.get("EMBEDDING_TASK"); // "query" for a model with prompts

Deno.serve(async (request) => {
  if (request.method === "OPTIONS") return new Response(null, { headers: corsHeaders });
  const Authorization = request.headers.get("Authorization") ?? "";
  const { question } = await request.json();

  const answer = await fetch(`${EMBEDDING_API_URL}/embed`, {
    method: "POST",
    headers: { Authorization, "Content-Type": "application/json" },
    body: JSON.stringify({ text: question, task }),
  });
  const embedded = await answer.json();
  if (!answer.ok) return Response.json(embedded, { status: answer.status, headers: corsHeaders });

  const supabase = createClient(SUPABASE_URL, SUPABASE_ANON_KEY, {
    global: { headers: { Authorization } },
  });
  const { data, error } = await supabase.rpc("search_documents", {
    query: JSON.stringify(embedded.embedding),
    match_count: 5,
    space: embedded.fingerprint, // leaves vectors of other models out
  });
  return Response.json(error ?? data, { status: error ? 500 : 200, headers: corsHeaders });
});
