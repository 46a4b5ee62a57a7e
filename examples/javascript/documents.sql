-- A table whose rows belong to the user who wrote them. Run it once, in Supabase's SQL editor; then
-- `jobs.embed_table documents --setup --text body` adds the vectors and the function search_documents.
create table documents (
    id bigint generated always as identity primary key,
    user_id uuid not null default auth.uid() references auth.users (id) on delete cascade,
    body text not null
);
create index on documents (user_id);

alter table documents enable row level security;
create policy "users have their own documents" on documents for all to authenticated
    using (user_id = (select auth.uid()))
    with check (user_id = (select auth.uid()));
