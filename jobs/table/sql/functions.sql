-- For filling without a worker: deploy/supabase. They fail where a policy hides rows from their
-- owner, instead of taking these for deleted.
create or replace function embedding_api.claim(text[], text, integer, double precision)
returns table (id bigint, name text, attempts integer)
language sql security definer set search_path = '' as $function$
{claim}
$function$;
revoke all on function embedding_api.claim(text[], text, integer, double precision) from public;

create or replace function {read_function}(bigint[], text)
returns table (
    id bigint, key_hash bytea, there boolean, done boolean, hash bytea, too_long boolean,
    title text, text text
)
language sql security definer set search_path = '' set row_security = off as $function$
{read}
$function$;
revoke all on function {read_function}(bigint[], text) from public;

create or replace function {write_function}(bigint[], text[], bytea[], text)
returns setof bigint
language sql security definer set search_path = '' set row_security = off as $function$
{write}
$function$;
revoke all on function {write_function}(bigint[], text[], bytea[], text) from public;
