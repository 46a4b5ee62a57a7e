-- Two functions for pg_cron: `post` sends waiting rows to the service with pg_net, `collect` writes
-- the vectors of the answers. Run it after answers.sql, as the same role.
begin;
set local search_path = '';

do $block$ begin
    if to_regproc('embedding_api.finish_post') is null
        or to_regclass('net._http_response') is null
        or to_regclass('vault.decrypted_secrets') is null
    then
        raise exception 'answers.sql, pg_net or Vault is missing'
            using hint = 'Run answers.sql, and enable the extensions pg_net and supabase_vault.';
    end if;
end $block$;

-- A secret of Vault.
create or replace function embedding_api.secret(name text) returns text
language plpgsql set search_path = '' as $function$
declare
    found_secret text;
begin
    select s.decrypted_secret into found_secret
        from vault.decrypted_secrets s where s.name = secret.name;
    if coalesce(found_secret, '') = '' then
        raise exception 'Vault has no secret %', name
            using hint = format('Run: select vault.create_secret(''...'', %L);', name);
    end if;
    return found_secret;
end
$function$;

-- Send requests until `most_posts` are in flight. Returns how many it sent. pg_net sends them after
-- the commit, and its next ones when all of them have ended: so they end within 60 seconds.
create or replace function embedding_api.post(most_posts integer default 2) returns integer
language plpgsql security definer set search_path = '' as $function$
declare
    url constant text := rtrim(embedding_api.secret('embedding_api_url'), '/') || '/batch-embed';
    key constant jsonb := jsonb_build_object(
        'Authorization', 'Bearer ' || embedding_api.secret('embedding_api_key')
    );
    request jsonb;
    sent integer := 0;
begin
    loop
        request := embedding_api.claim_post(most_posts);
        exit when request is null;
        update embedding_api.posts
            set request_id = net.http_post(
                url => url, body => request -> 'body', headers => request -> 'headers' || key,
                timeout_milliseconds => 60000
            )
            where id = (request ->> 'post')::bigint;
        sent := sent + 1;
    end loop;
    return sent;
end
$function$;

-- Write the vectors of the answers that have come, and delete the answers: pg_net would keep them
-- for six hours. Returns how many rows have their vectors now.
create or replace function embedding_api.collect() returns integer
language plpgsql security definer set search_path = '' as $function$
declare
    answer record;
    written integer;
    total integer := 0;
begin
    for answer in
        select p.id as post, r.*, h.retry_after
        from embedding_api.posts p
        join net._http_response r on r.id = p.request_id
        cross join lateral (
            select max(value) filter (where lower(key) = 'retry-after') as retry_after,
                max(value) filter (where lower(key) = 'x-request-id') as request_id
            from jsonb_each_text(r.headers)
        ) h
        -- After a crash pg_net begins its ids again: the answer may be that of another post.
        where p.finished_at is null
            and coalesce(h.request_id, '') !~ ('^post-(?!' || p.id || '$)')
        -- Vectors first: they tell that the service was not away when it gave no other answer.
        order by r.status_code is distinct from 200, p.id
    loop
        written := embedding_api.finish_post(
            answer.post, answer.status_code, answer.retry_after, answer.content, answer.error_msg
        );
        total := total + coalesce(written, 0);
        if written is not null then
            delete from net._http_response r where r.id = answer.id;
        end if;
    end loop;
    return total;
end
$function$;

revoke all on all functions in schema embedding_api from public;
commit;
