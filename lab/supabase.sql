-- What a new database of a Supabase project has, as far as a policy and a search need it.
do $block$ begin
    if to_regrole('anon') is null then create role anon nologin; end if;
    if to_regrole('authenticated') is null then create role authenticated nologin; end if;
end $block$;

create schema extensions;
create schema auth;
create table auth.users (id uuid primary key, email text unique);
create function auth.uid() returns uuid language sql stable as $function$
    select (nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub')::uuid
$function$;

grant usage on schema public, extensions, auth to anon, authenticated;
alter default privileges in schema public grant all on tables to anon, authenticated;
alter default privileges in schema public grant all on functions to anon, authenticated;
