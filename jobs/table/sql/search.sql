-- With the caller's rights: policies of the table decide what is found. `space` is the fingerprint
-- of the model that embedded the query; with it, rows of another model are left out.
-- Loads pgvector's library, without which only a superuser may name its settings.
do $block$ begin perform '[0]'::{type_name}; end $block$;
drop function if exists {search}({type_name}, integer, text);
create function {search}(
    query {type_name}, match_count integer default 10, space text default null
) returns table ({returns}, similarity double precision)
language sql stable security invoker set search_path = ''{settings} as $function$
    select {selected}, 1 - (t.{embedding} operator({vector_schema}.<=>) query)
    from {table} t
    where t.{embedding} is not null
      and (space is null or t.{fingerprint} = space)
    order by t.{embedding} operator({vector_schema}.<=>) query
    limit least(greatest(match_count, 0), 1000)
$function$;
