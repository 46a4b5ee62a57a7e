"""Who may call the functions, and what their owner has to see."""

import psycopg
import pytest

from tests.deploy.supabase.project import POST, Project


def test_a_user_of_the_table_needs_no_right_in_the_queue(project: Project) -> None:
    project.connection.execute("GRANT ALL ON documents TO authenticated")
    with project.connection.transaction():
        project.connection.execute("SET LOCAL ROLE authenticated")
        project.connection.execute("INSERT INTO documents (body) VALUES ('of a user')")
    project.tick()
    assert project.filling.assert_filled("documents") == 1


def test_no_function_can_be_called_by_users_of_the_api(project: Project) -> None:
    functions = project.connection.execute(
        "SELECT oid, oid::regprocedure::text, proconfig FROM pg_proc "
        "WHERE pronamespace = 'embedding_api'::regnamespace"
    ).fetchall()
    assert len(functions) > 15
    for oid, name, configuration in functions:
        assert 'search_path=""' in (configuration or ()), name
        for role in ("anon", "authenticated", "service_role"):
            may = project.one("SELECT has_function_privilege(%s, %s::oid, 'EXECUTE')", role, oid)
            assert not may, (role, name)
    with project.connection.transaction(force_rollback=True):
        project.connection.execute("SET LOCAL ROLE authenticated")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            project.connection.execute(POST)


def test_rows_that_a_policy_hides_are_not_taken_for_deleted(project: Project) -> None:
    role = f"keeper_{project.connection.info.backend_pid}"
    project.connection.execute(f"CREATE ROLE {role}")
    try:
        for statement in (
            f"GRANT USAGE ON SCHEMA embedding_api, extensions TO {role}",
            f"GRANT ALL ON ALL TABLES IN SCHEMA embedding_api TO {role}",
            f"GRANT ALL ON documents TO {role}",
            "ALTER TABLE documents ENABLE ROW LEVEL SECURITY",
        ):
            project.connection.execute(statement)
        [name] = project.connection.execute(
            "SELECT proname FROM pg_proc WHERE proname LIKE 'read\\_%'"
        ).fetchone() or [""]
        project.connection.execute(
            f"ALTER FUNCTION embedding_api.{name}(bigint[], text) OWNER TO {role}"
        )
        project.insert(1)
        project.fill()
        error = project.one("SELECT last_error FROM embedding_api.queue")
        assert 'row-level security policy for table "documents"' in error
    finally:
        project.connection.execute(f"DROP OWNED BY {role}")
        project.connection.execute(f"DROP ROLE {role}")
