insert into embedding_api.columns
    (name, relation, embedding, keys, template, function, title, kind, dimensions, search, made,
     task)
values
    ({name}, {relation}, {embedding_name}, {keys}, {template}, {function}, {title}, {kind},
     {dimensions}, {search_name}, {made}, {task})
on conflict (name) do update set
    keys = excluded.keys, template = excluded.template, function = excluded.function,
    title = excluded.title, search = excluded.search, task = excluded.task;

alter table {table}
    add column if not exists {embedding} {type},
    add column if not exists {hash} bytea,
    add column if not exists {fingerprint} text;

-- With the rights of its owner: who may write to the table need not know the queue.
create or replace function {trigger_function}() returns trigger
language plpgsql security definer set search_path = '' as $function$
begin
    if tg_op = 'UPDATE' and not ({changed}) then
        return null;
    end if;
    insert into embedding_api.queue (name, key, key_hash)
    select {name}, k.key, pg_catalog.sha256(pg_catalog.convert_to(k.key::pg_catalog.text, 'UTF8'))
    from (select {new_key} as key) k
    on conflict (name, key_hash) where attempts = 0 do update set key = excluded.key;
    perform pg_catalog.pg_notify('embedding_api', '');
    return null;
end
$function$;
revoke all on function {trigger_function}() from public;

create or replace trigger {trigger} after insert or update on {table}
    for each row execute function {trigger_function}();
