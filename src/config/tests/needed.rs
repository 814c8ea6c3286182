//! What is needed by whom, and what is said of the rest.

use super::*;

#[test]
fn a_value_that_is_wrong_is_not_called_missing_as_well() {
    let env = [
        ("GCP_PROJECT_ID", "my project"),
        ("GCP_BIGQUERY_DATASET", "d-1"),
        ("GCP_GCS_BUCKET", "B"),
        ("EVENTKIT_WAREHOUSE_KIND", "bigquery"),
        ("EVENTKIT_QUEUE_MODE", "pubsub"),
        ("EVENTKIT_STORE_REGION", "eu"),
    ];
    assert_eq!(
        mistakes("", &env, &[]),
        [
            "GCP_PROJECT_ID: google.project: \"my project\" is not a project's id such as \
             \"my-project-1\"",
            "GCP_BIGQUERY_DATASET: warehouse.dataset: \"d-1\" is not a dataset's name such as \
             \"events\"",
            "GCP_GCS_BUCKET: store.bucket: \"gs://B\" is not a bucket such as \"gs://events\" or \
             \"s3://events\"",
        ]
    );
    let sizes = "[wal]\nbytes_max = \"16 GB\"\nsegment_bytes = \"8 Mib s\"";
    assert_eq!(mistakes(sizes, &[], &[]).len(), 1);
    let mode = [("EVENTKIT_QUEUE_MODE", "pub"), ("EVENTKIT_ROLE", "collect")];
    assert_eq!(mistakes("", &mode, &[]).len(), 1, "a role needs a mode that was meant");
    let stores = [("EVENTKIT_EVENT_STORE", "firestor"), ("EVENTKIT_STORE_COLLECTION", "c")];
    assert_eq!(mistakes("", &stores, &[]).len(), 1);
}

#[test]
fn who_only_collects_needs_nothing_that_only_a_store_needs() {
    let text = "[store]\nkind = \"firestore\"\n[warehouse]\nkind = \"bigquery\"\n";
    let env = [("EVENTKIT_QUEUE_MODE", "pubsub"), ("GCP_PROJECT_ID", "p")];
    load_text(text, &env, &[("role", "collect")]).unwrap();
    for role in ["process", "all"] {
        assert_eq!(
            mistakes(text, &env, &[("role", role)]),
            [
                "e.toml:4:8: warehouse.kind: it needs a store.bucket of gs://: BigQuery loads from \
                 there",
                "e.toml:4:8: warehouse.kind: it needs a warehouse.dataset",
            ]
        );
    }
    assert_eq!(mistakes(text, &env, &[("role", "colect")]).len(), 1);
}

#[test]
fn a_misspelt_variable_is_a_warning_and_somebody_else_s_is_none() {
    let env = [
        ("GCP_PROJET_ID", "p"),
        ("GCP_GCS_BUKCET", "b"),
        ("EVENTKIT_EVENT_STOR", "lake"),
        ("EVENTKIT_GOOGEL_PROJECT", "p"),
        ("GCP_PROJECT", "p"),
        ("GCP_REGION", "r"),
        ("GCP_ZONE", "z"),
        ("GCP_BUCKET", "b"),
        ("GCP_PROJECT_ID", "p"),
        ("MY_GCP_PROJECT_ID", "p"),
    ];
    let (_, warnings) = load_text("", &env, &[]).unwrap();
    let lines: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "GCP_PROJET_ID: there is no such setting; did you mean GCP_PROJECT_ID?",
            "GCP_GCS_BUKCET: there is no such setting; did you mean GCP_GCS_BUCKET?",
            "EVENTKIT_EVENT_STOR: there is no such setting; did you mean EVENTKIT_EVENT_STORE?",
            "EVENTKIT_GOOGEL_PROJECT: there is no such setting; did you mean \
             EVENTKIT_GOOGLE_PROJECT?",
        ]
    );
}

#[test]
fn a_mistake_elsewhere_keeps_nobody_from_what_he_needs() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("e.toml");
    let part = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let sources = Sources { file: Some(file.clone()), ..Sources::default() };
        load_part(sources, &["data_dir", "admin_socket"])
    };
    let text = "data_dir = \"/d\"\n[warehouse]\nkind = \"bigtable\"\n[nothing]\nx = 1\n";
    let (config, warnings) = part(text).unwrap();
    assert_eq!(config.admin_socket, Path::new("/d/admin.sock"));
    let told: Vec<&str> = warnings.iter().map(|warning| warning.sentence.as_str()).collect();
    assert_eq!(
        told,
        [
            "warehouse.kind: \"bigtable\" is not \"none\" or \"bigquery\"",
            "nothing: there is no such key",
        ]
    );
    let needed = |text: &str| part(text).unwrap_err().0.remove(0).sentence;
    assert_eq!(needed("data_dir = 3\n[wal]\nx = 1"), "must be a path, not an integer");
    assert_eq!(needed("data_dir = \"a\"\ndata_dir = \"b\""), "it is there a second time");
    assert!(needed("data_dir = ").starts_with("the file is not TOML: "));
}

#[test]
fn a_file_with_credentials_is_named_by_google_s_own_variable_unless_a_key_names_one() {
    let env = [("GOOGLE_APPLICATION_CREDENTIALS", "/k.json")];
    let (config, _) = load_text("", &env, &[]).unwrap();
    let shown = ("\"/k.json\"".to_owned(), env[0].0.to_owned());
    assert_eq!(value(&config, "google.credentials"), shown);
    assert_eq!(config.google.credentials_place, Place::Variable(env[0].0.to_owned()));
    let (config, _) = load_text("[google]\ncredentials = \"/own.json\"", &env, &[]).unwrap();
    assert_eq!(value(&config, "google.credentials"), ("\"/own.json\"".into(), "e.toml:2".into()));
}
