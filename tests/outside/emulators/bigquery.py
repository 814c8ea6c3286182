"""bqemulator with the load jobs of the real service.

    python bigquery.py start --project P      (with the interpreter that has bqemulator)

Of itself it loads file by file and not atomically, by position, and does not widen a table. Here a
job is all or nothing, the columns of Parquet go by their names, those that a file lacks are NULL,
those that the table lacks need ALLOW_FIELD_ADDITION, tables.patch really widens, outputRows is the
job's own, and a list of jobs says which of them failed. Still unlike the service: a job is DONE at
once, and there are no quotas, projects or permissions.
"""

import functools
import sys

import bqemulator.api.routes.jobs as routes
from bqemulator.cli import main
from bqemulator.jobs import executor
from bqemulator.storage.type_map import bq_to_duckdb, duckdb_to_bq

# What is replaced of the emulator.
dispose = executor._apply_load_write_disposition
load_path = executor._load_path_into_target
execute = executor.execute_load_job
parse = executor._parse_load_job_config
listing = routes.list_jobs

# How many rows each job has inserted, until it is reported.
inserted = {}


def load_all(job, context):
    """Takes the place of the step that empties the table, and loads all the files after it."""
    dispose(job, context)
    inserted[id(job)] = None
    if job.source_format != "PARQUET":
        return
    sql = context.engine.execute
    table = context.catalog.get_table(job.project_id, job.dataset_id, job.table_id)
    have = {row[0] for row in sql(f"DESCRIBE {job.target_ref}").fetchall()}

    def add(name, kind):
        sql(f'ALTER TABLE {job.target_ref} ADD COLUMN "{name}" {kind}')
        have.add(name)

    # tables.patch changes the catalogue only.
    for field in table.schema_.fields if table else []:
        if field.name not in have:
            add(field.name, bq_to_duckdb(str(getattr(field, "type", None) or field.field_type)))

    paths = [executor._resolve_uri(uri, context) for uri in job.source_uris]
    files = f"read_parquet([{', '.join('?' for _ in paths)}], union_by_name = true, hive_partitioning = false)"
    columns = {
        row[0]: row[1] for row in sql(f"DESCRIBE SELECT * FROM {files}", paths).fetchall()
    }
    new = [name for name in columns if name not in have]
    if new and "ALLOW_FIELD_ADDITION" not in job.raw_config.get("schemaUpdateOptions", []):
        name = f"{job.project_id}:{job.dataset_id}.{job.table_id}"
        raise RuntimeError(
            f"Provided Schema does not match Table {name}. Cannot add fields (field: {new[0]})"
        )
    # All is read first: a bad file or value fails the job before the table is touched.
    sql(f"CREATE OR REPLACE TEMP TABLE _load AS SELECT * FROM {files}", paths)
    wanted = {f["name"]: f["type"] for f in job.raw_config.get("schema", {}).get("fields", [])}
    for name in new:
        add(name, bq_to_duckdb(wanted[name]) if name in wanted else columns[name])
    if new and table:
        catalogue(context, table, {n: wanted.get(n) or duckdb_to_bq(columns[n]) for n in new})
    names = ", ".join(f'"{name}"' for name in columns)
    sql(f"INSERT INTO {job.target_ref} BY NAME SELECT {names} FROM _load")
    inserted[id(job)] = sql("SELECT count(*) FROM _load").fetchone()[0]


def catalogue(context, table, new):
    """Adds columns, {name: type}, to what the emulator says of a table."""
    fields = table.schema_.fields
    kind = type(fields[0])
    added = [
        kind.model_validate({"name": name, "type": type_, "mode": "NULLABLE"})
        for name, type_ in new.items()
    ]
    schema = table.schema_.model_copy(update={"fields": type(fields)([*fields, *added])})
    context.catalog.update_table(table.model_copy(update={"schema_": schema}))


def load_path_unless_loaded(path, job, context):
    if job.source_format != "PARQUET":
        load_path(path, job, context)


async def execute_load_job(project_id, job_id, config, context):
    """As the emulator's, but what it says of the rows is the job's own."""
    parsed = []
    executor._parse_load_job_config = lambda *given: parsed.append(parse(*given)) or parsed[-1]
    try:
        meta = await execute(project_id, job_id, config, context)
    finally:
        executor._parse_load_job_config = parse
    rows = inserted.pop(id(parsed[0]), None) if parsed else None
    if rows is None:
        return meta
    statistics = {"outputRows": str(rows), "inputFiles": str(len(parsed[0].source_uris))}
    return meta.model_copy(update={"statistics": {"load": statistics}})


@functools.wraps(listing)
def list_jobs(**asked):
    listed = listing(**asked)
    for job in listed["jobs"]:
        meta = asked["ctx"].catalog.get_job(asked["project_id"], job["jobReference"]["jobId"])
        if meta and meta.error_result:
            job["errorResult"] = meta.error_result
            job["status"] |= {"errorResult": meta.error_result, "errors": [meta.error_result]}
    return listed


executor._apply_load_write_disposition = load_all
executor._load_path_into_target = load_path_unless_loaded
executor.execute_load_job = routes.execute_load_job = execute_load_job
for route in routes.router.routes:
    if route.endpoint is listing:
        route.endpoint = list_jobs

if __name__ == "__main__":
    sys.exit(main())
