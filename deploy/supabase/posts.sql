-- Rows of the queue as requests to /batch-embed. Run it after `jobs.embed_table TABLE --setup`, as
-- the same role, then answers.sql, then pg_net.sql or edge_function.sql. Running one again replaces
-- its functions.
begin;
set local search_path = '';

do $block$ begin
    if to_regproc('embedding_api.claim') is null then
        raise exception 'no column is set up'
            using hint = 'Run jobs.embed_table TABLE --setup for each table first.';
    end if;
end $block$;

-- One row per request, kept for an hour after its end.
create table if not exists embedding_api.posts (
    id bigint generated always as identity primary key,
    name text not null references embedding_api.columns on delete cascade,
    ids bigint[] not null,              -- entries of the queue, in the order of the texts
    hashes bytea[] not null,            -- of the texts
    request_id bigint,                  -- of pg_net
    posted_at timestamptz not null default clock_timestamp(),
    leased_until timestamptz not null,  -- ready_at of its entries; without an end by then it is lost
    finished_at timestamptz,
    status integer,                     -- of the answer; null without one
    rows integer,                       -- that have their vectors now; null where it failed
    error text,
    resume_at timestamptz               -- nothing is posted before
);
create index if not exists posts_open on embedding_api.posts (id) where finished_at is null;

-- The next request as {post, headers, body}; null when no row is ready, when `most_posts` are in
-- flight, and while the service is not to be asked.
create or replace function embedding_api.claim_post(most_posts integer) returns jsonb
language plpgsql security definer set search_path = '' as $function$
declare
    lease constant double precision := 180;  -- seconds; the request itself may take 60
    col embedding_api.columns;
    claimed bigint[];
    request jsonb;
begin
    -- One at a time, so that `most_posts` is exact.
    if not pg_try_advisory_xact_lock(hashtextextended('embedding_api.claim_post', 0)) then
        return null;
    end if;
    perform embedding_api.finish_post(p.id, null, null, null, 'no answer came')
        from embedding_api.posts p where p.finished_at is null and p.leased_until <= now();
    if exists (select from embedding_api.posts where resume_at > now())
        or (select count(*) >= most_posts from embedding_api.posts where finished_at is null)
    then
        return null;
    end if;
    for attempt in 1..100 loop  -- a claim may have no text: its rows were deleted
        select c.* into col
            from embedding_api.queue q join embedding_api.columns c using (name)
            where q.dead_at is null and q.ready_at <= clock_timestamp() order by q.id limit 1;
        exit when not found;
        select array_agg(id) into claimed
            from embedding_api.claim(array[col.name], col.fingerprint, 64, lease);
        exit when claimed is null;
        request := embedding_api.request_for(
            col, claimed, now() + make_interval(secs => lease)
        );
        exit when request is not null;
    end loop;
    return request;
end
$function$;

-- The request for claimed rows of one column, noted in `posts`; null when none of them has a text
-- to embed. Entries of rows that are gone or right already are deleted.
create or replace function embedding_api.request_for(
    col embedding_api.columns, claimed bigint[], leased_until timestamptz
) returns jsonb
language plpgsql set search_path = '' as $function$
declare
    ids bigint[] := '{}'; hashes bytea[] := '{}'; texts text[] := '{}'; titles text[] := '{}';
    seen bytea[] := '{}'; finished bigint[] := '{}'; refused bigint[] := '{}';
    entry record;
begin
    for entry in
        execute format(
            'select * from embedding_api.%I($1, $2) order by id desc',
            'read_' || embedding_api.digest_of(col.name)
        ) using claimed, col.fingerprint
    loop
        if not entry.there or entry.done or entry.key_hash = any(seen) then
            finished := finished || entry.id;  -- of two entries of one row the later counts
        elsif entry.too_long or char_length(entry.title) > 1000 then
            refused := refused || entry.id;
        else
            ids := ids || entry.id;
            hashes := hashes || entry.hash;
            texts := texts || coalesce(nullif(entry.text, ''), ' ');  -- the service refuses ''
            titles := titles || entry.title;
        end if;
        seen := seen || entry.key_hash;
    end loop;
    delete from embedding_api.queue q where q.id = any(finished);
    perform embedding_api.fail_rows(
        refused, leased_until, 'the text has over 1 MiB, or the title over 1000 characters'
    );
    perform embedding_api.give_back(
        array(select unnest(claimed) except select unnest(ids)), leased_until
    );
    return embedding_api.note_post(col, ids, hashes, leased_until, texts, titles);
exception when others then  -- such as a column that was renamed
    perform embedding_api.fail_unreadable(col, claimed, leased_until);
    return null;
end
$function$;

-- Of claimed rows that cannot be read together, fail those that cannot be read alone, such as one
-- for which the function of its text raises an error. Give the others back.
create or replace function embedding_api.fail_unreadable(
    col embedding_api.columns, claimed bigint[], leased_until timestamptz
) returns void
language plpgsql set search_path = '' as $function$
declare
    one bigint;
begin
    foreach one in array claimed loop
        begin
            execute format(
                'select from embedding_api.%I($1, $2)', 'read_' || embedding_api.digest_of(col.name)
            ) using array[one], col.fingerprint;
        exception when others then
            perform embedding_api.fail_rows(array[one], leased_until, sqlerrm);
        end;
    end loop;
    perform embedding_api.give_back(claimed, leased_until);
end
$function$;

create or replace function embedding_api.note_post(
    col embedding_api.columns, ids bigint[], hashes bytea[], leased_until timestamptz,
    texts text[], titles text[]
) returns jsonb
language sql set search_path = '' as $function$
    with noted as (
        insert into embedding_api.posts (name, ids, hashes, leased_until)
        select col.name, ids, hashes, leased_until where cardinality(ids) > 0
        returning id
    )
    select jsonb_strip_nulls(jsonb_build_object(
        'post', id,
        'headers', jsonb_build_object(
            'Content-Type', 'application/json',
            'X-Request-ID', 'post-' || id,
            'If-Fingerprint', col.fingerprint
        ),
        'body', jsonb_build_object(
            'texts', texts,
            'title', case when col.title is not null then titles end,
            'task', col.task,
            'dimensions', col.dimensions
        )
    ))
    from noted
$function$;

-- Note why rows have no vector, and try them again later, five times in all. Entries that somebody
-- else has by now are left alone, here and below.
create or replace function embedding_api.fail_rows(
    ids bigint[], leased_until timestamptz, reason text
) returns void
language sql set search_path = '' as $function$
    update embedding_api.queue q
    set last_error = left(reason, 500),
        ready_at = clock_timestamp() + make_interval(secs => power(2, q.attempts)),
        dead_at = case when q.attempts >= 5 then clock_timestamp() end
    where q.id = any(ids) and q.ready_at = leased_until
$function$;

-- Let rows be claimed again. A refusal does not count as an attempt. Other failures count up to two:
-- then a row is sent alone, so that a text that makes requests fail delays no other row.
create or replace function embedding_api.give_back(
    ids bigint[], leased_until timestamptz, reason text default null,
    is_refusal boolean default true, after double precision default 0
) returns void
language sql set search_path = '' as $function$
    update embedding_api.queue q
    set last_error = coalesce(left(reason, 500), q.last_error),
        ready_at = clock_timestamp() + make_interval(secs => after),
        attempts = case when is_refusal then greatest(q.attempts - 1, 1)
            else least(q.attempts, 2) end
    where q.id = any(ids) and q.ready_at = leased_until
$function$;

-- The end of the names of a column's own functions.
create or replace function embedding_api.digest_of(name text) returns text
language sql immutable set search_path = '' as $function$
    select left(encode(sha256(convert_to(name, 'UTF8')), 'hex'), 16)
$function$;

-- Earlier versions set columns up without functions.
do $block$
declare
    missing constant text := (
        select string_agg(name, ', ') from embedding_api.columns
        where to_regproc('embedding_api.read_' || embedding_api.digest_of(name)) is null
    );
begin
    if missing is not null then
        raise exception 'there are no functions of %', missing
            using hint = 'Run jobs.embed_table TABLE --setup for each table again.';
    end if;
end $block$;

revoke all on all functions in schema embedding_api from public;
commit;
