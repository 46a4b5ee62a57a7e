-- Stand-ins for extensions of Supabase that no package has: the tables and functions of pg_net,
-- Vault and pg_cron that their users see, and the roles of the API.
do $block$
declare
    name text;
begin
    foreach name in array array['anon', 'authenticated', 'service_role'] loop
        if to_regrole(name) is null then
            execute format('create role %I nologin', name);
        end if;
    end loop;
end $block$;
create schema if not exists extensions;
grant usage on schema public to anon, authenticated, service_role;
alter default privileges in schema public
    grant all on functions to anon, authenticated, service_role;

create schema net;
create unlogged table net.http_request_queue (
    id bigserial,
    method text not null,
    url text not null,
    headers jsonb,
    body bytea,
    timeout_milliseconds integer not null
);
create unlogged table net._http_response (
    id bigint,
    status_code integer,
    content_type text,
    headers jsonb,
    content text,
    timed_out boolean,
    error_msg text,
    created timestamptz not null default now()
);
create index on net._http_response (created);

create function net.http_post(
    url text,
    body jsonb default '{}',
    params jsonb default '{}',
    headers jsonb default '{"Content-Type": "application/json"}',
    timeout_milliseconds integer default 5000
) returns bigint language sql as $function$
    insert into net.http_request_queue (method, url, headers, body, timeout_milliseconds)
    values ('POST', url, headers, convert_to(body::text, 'UTF8'), timeout_milliseconds)
    returning id
$function$;

grant usage on schema net to public;
grant all on all sequences in schema net to public;
grant all on all tables in schema net to public;

create schema vault;
create table vault.secrets (name text unique, secret text);
create view vault.decrypted_secrets as select name, secret as decrypted_secret from vault.secrets;
create function vault.create_secret(new_secret text, new_name text) returns void
language sql as $function$
    insert into vault.secrets values (new_name, new_secret)
$function$;

create schema cron;
create table cron.job (jobid bigserial, jobname text unique, schedule text, command text);
create table cron.job_run_details (command text, status text, end_time timestamptz);
create function cron.schedule(job_name text, schedule text, command text) returns bigint
language sql as $function$
    insert into cron.job (jobname, schedule, command) values (job_name, schedule, command)
    on conflict (jobname) do update
        set schedule = excluded.schedule, command = excluded.command
    returning jobid
$function$;
create function cron.unschedule(job_name text) returns boolean
language sql as $function$
    with gone as (delete from cron.job where jobname = job_name returning 1)
    select exists (select from gone)
$function$;
