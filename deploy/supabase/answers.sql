-- Answers to requests of posts.sql as vectors, or as reasons to try again. Run it after posts.sql.
begin;
set local search_path = '';

do $block$ begin
    if to_regclass('embedding_api.posts') is null then
        raise exception 'posts.sql is missing' using hint = 'Run posts.sql first.';
    end if;
end $block$;

-- Record the end of a request: what was answered, or `error` if nothing was. Returns how many rows
-- have their vectors now; null if the end was recorded before.
create or replace function embedding_api.finish_post(
    post bigint, status integer, retry_after text, content text, error text
) returns integer
language plpgsql security definer set search_path = '' as $function$
declare
    p embedding_api.posts;
    written integer;
    reason text := coalesce(embedding_api.reason_of(status, content), error);
begin
    select * into p from embedding_api.posts o
        where o.id = post and o.finished_at is null for update skip locked;
    if not found then
        return null;
    end if;
    begin
        if status = 200 then
            written := embedding_api.write_vectors(
                p, embedding_api.vectors_of(p, content::json)
            );
        end if;
    exception when others then
        reason := 'of no use: ' || sqlerrm;
    end;
    if written is null then
        perform embedding_api.fail_post(
            p, status, reason, retry_after,
            of_texts => embedding_api.is_fault_of_texts(p, status, content)
        );
    end if;
    update embedding_api.posts o
        set finished_at = now(), status = finish_post.status, rows = written,
            error = left(reason, 500)
        where o.id = p.id;
    delete from embedding_api.posts o where o.finished_at < now() - interval '1 hour';
    delete from embedding_api.written o where o.written_at < now() - interval '10 minutes';
    return coalesce(written, 0);
end
$function$;

-- The vectors of an answer, null for blank texts. The first one says which model fills the column.
create or replace function embedding_api.vectors_of(p embedding_api.posts, answer json)
returns text[]
language plpgsql set search_path = '' as $function$
declare
    col embedding_api.columns;
begin
    update embedding_api.columns c set fingerprint = answer ->> 'fingerprint'
        where c.name = p.name and c.fingerprint is null;
    select * into col from embedding_api.columns c where c.name = p.name;
    if answer ->> 'fingerprint' is distinct from col.fingerprint then
        raise exception 'its model is %, and that of % is %: run jobs.embed_table --reembed',
            answer ->> 'fingerprint', col.name, col.fingerprint;
    end if;
    if json_array_length(answer -> 'embeddings') is distinct from cardinality(p.ids)
        or answer ->> 'dimensions' is distinct from col.dimensions::text
    then
        raise exception 'it has not % vectors of % dimensions', cardinality(p.ids), col.dimensions;
    end if;
    return array(
        select case when not (answer -> 'empty')::jsonb @> to_jsonb(n - 1) then vector::text end
        from json_array_elements(answer -> 'embeddings') with ordinality e(vector, n) order by n
    );
end
$function$;

-- Write vectors of texts that are still those of their rows. Rows that changed, or that somebody
-- else is writing, are tried again. A row that the table does not take, such as by an error of its
-- trigger, fails alone.
create or replace function embedding_api.write_vectors(p embedding_api.posts, vectors text[])
returns integer
language plpgsql set search_path = '' as $function$
declare
    written bigint[];
begin
    begin
        written := embedding_api.write_rows(p.name, p.ids, vectors, p.hashes);
    exception when others then
        for n in 1..cardinality(p.ids) loop
            begin
                written := written || embedding_api.write_rows(
                    p.name, p.ids[n:n], vectors[n:n], p.hashes[n:n]
                );
            exception when others then
                perform embedding_api.fail_rows(p.ids[n:n], p.leased_until, sqlerrm);
            end;
        end loop;
    end;
    perform embedding_api.give_back(
        array(select unnest(p.ids) except select unnest(written)), p.leased_until, after => 1
    );
    return coalesce(cardinality(written), 0);
end
$function$;

-- Call the column's own function. Returns the entries whose rows have their vectors now.
create or replace function embedding_api.write_rows(
    name text, ids bigint[], vectors text[], hashes bytea[]
) returns bigint[]
language plpgsql set search_path = '' as $function$
declare
    written bigint[];
begin
    execute format(
        'select array_agg(w.id) from embedding_api.columns c, '
        'embedding_api.%I($1, $2, $3, c.fingerprint) w(id) where c.name = $4',
        'write_' || embedding_api.digest_of(name)
    ) into written using ids, vectors, hashes, name;
    return written;
end
$function$;

-- Have the rows of a request that failed tried again: those at fault a few times, others until the
-- service answers.
create or replace function embedding_api.fail_post(
    p embedding_api.posts, status integer, reason text, retry_after text, of_texts boolean
) returns void
language plpgsql set search_path = '' as $function$
begin
    if of_texts then
        perform embedding_api.fail_rows(p.ids, p.leased_until, reason);
        return;
    end if;
    perform embedding_api.give_back(
        p.ids, p.leased_until, reason, is_refusal => status between 400 and 499 or status = 503
    );
    update embedding_api.posts o
        set resume_at = now() + make_interval(secs => embedding_api.seconds_to_wait(retry_after))
        where o.id = p.id;
end
$function$;

-- Seconds until the next request: what the service asked for, or twice as many after each failure.
create or replace function embedding_api.seconds_to_wait(retry_after text)
returns double precision
language sql set search_path = '' as $function$
    select case
        when retry_after ~ '^[0-9]{1,6}$' then least(greatest(retry_after::integer, 1), 300)
        else least(5 * power(2, least(count(*), 6)), 300)
    end
    from embedding_api.posts f
    where f.finished_at is not null and f.rows is null and f.id > coalesce(
        (select max(s.id) from embedding_api.posts s where s.rows is not null), 0
    )
$function$;

-- The `error` of an answer of the service; null of anything else, such as a proxy's page.
create or replace function embedding_api.error_of(content text) returns jsonb
language plpgsql set search_path = '' as $function$
begin
    return content::jsonb -> 'error';
exception when others then
    return null;
end
$function$;

-- Whether a request failed because of its texts. If the service did not say why, a request counts as
-- such if it had only one text, and other requests were answered meanwhile.
create or replace function embedding_api.is_fault_of_texts(
    p embedding_api.posts, status integer, content text
) returns boolean
language sql set search_path = '' as $function$
    select coalesce(
        status = 413
        or status = 422 and embedding_api.error_of(content) ->> 'param' ~ '^(texts|title)[.]'
        or embedding_api.error_of(content) ->> 'code' = 'embedding_failed'
        or (status is null or status between 500 and 599 and status <> 503)
            and cardinality(p.ids) = 1
            and exists (
                select from embedding_api.posts o
                where o.rows is not null and o.finished_at > p.posted_at
            ),
        false
    )
$function$;

-- What a refusal says; null without one.
create or replace function embedding_api.reason_of(status integer, content text) returns text
language sql set search_path = '' as $function$
    select case when status <> 200 then status || ' ' || coalesce(
        (e ->> 'code') || ': ' || (e ->> 'message'), left(content, 200), 'without a word'
    ) end
    from (select embedding_api.error_of(content)) f(e)
$function$;

revoke all on all functions in schema embedding_api from public;
commit;
