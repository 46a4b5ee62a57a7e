-- What the Edge Function `embed` calls with the project's secret key, and the call of the function
-- by pg_cron. Run it after answers.sql, as the same role.
begin;
set local search_path = '';

do $block$ begin
    if to_regproc('embedding_api.finish_post') is null then
        raise exception 'answers.sql is missing' using hint = 'Run answers.sql first.';
    end if;
end $block$;

create or replace function public.embedding_api_claim() returns jsonb
language sql security definer set search_path = '' as $function$
    select embedding_api.claim_post(2)
$function$;

create or replace function public.embedding_api_finish(
    post bigint, status integer default null, retry_after text default null,
    content text default null, error text default null
) returns integer
language sql security definer set search_path = '' as $function$
    select embedding_api.finish_post(post, status, retry_after, content, error)
$function$;

revoke all on function public.embedding_api_claim, public.embedding_api_finish
    from public, anon, authenticated;
grant execute on function public.embedding_api_claim, public.embedding_api_finish to service_role;

-- Call the function if rows wait. It answers at once, and works on.
create or replace function embedding_api.call_function() returns bigint
language plpgsql security definer set search_path = '' as $function$
declare
    secrets constant jsonb := (
        select jsonb_object_agg(name, decrypted_secret) from vault.decrypted_secrets
        where name in ('embed_function_url', 'embed_function_secret')
    );
begin
    if not exists (
        select from embedding_api.queue where dead_at is null and ready_at <= now()
    ) then
        return null;
    end if;
    return net.http_post(
        url => secrets ->> 'embed_function_url',
        headers => jsonb_build_object(
            'Content-Type', 'application/json',
            'Authorization', 'Bearer ' || (secrets ->> 'embed_function_secret')
        )
    );
end
$function$;
revoke all on function embedding_api.call_function() from public;
commit;
