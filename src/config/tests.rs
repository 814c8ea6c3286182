use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::draft::Draft;
use super::keys::At;
use super::*;
use crate::adapt::{AdapterRule, JsonType};

mod needed;

const EXAMPLE: &str = include_str!("../../examples/eventkit.toml");

/// Loads a file of that text, with variables and options.
fn load_text(
    text: &str,
    env: &[(&str, &str)],
    options: &[(&str, &str)],
) -> Result<(Config, Vec<Warning>), Mistakes> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("e.toml");
    std::fs::write(&file, text).unwrap();
    let owned = |pairs: &[(&str, &str)]| {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(pair).collect()
    };
    load(Sources { file: Some(file), env: owned(env), options: owned(options) })
}

/// The mistakes' lines, without the directory of the file.
fn mistakes(text: &str, env: &[(&str, &str)], options: &[(&str, &str)]) -> Vec<String> {
    let Mistakes(mistakes) = load_text(text, env, options).unwrap_err();
    let short = |mut mistake: Mistake| {
        if let Place::File { path, .. } = &mut mistake.place {
            *path = path.file_name().unwrap().into();
        }
        mistake.to_string()
    };
    mistakes.into_iter().map(short).collect()
}

fn value(config: &Config, key: &str) -> (String, String) {
    let line = config.describe().into_iter().find(|line| line.key == key);
    let line = line.unwrap_or_else(|| panic!("no key {key}"));
    let origin = match line.origin.rsplit_once('/') {
        Some((_, short)) => short.to_owned(),
        None => line.origin,
    };
    (line.value, origin)
}

fn stream<'c>(config: &'c Config, name: &str) -> &'c StreamConfig {
    &config.streams[&StreamName::new(name).unwrap()]
}

#[test]
fn the_example_holds_every_key_with_its_default() {
    load_text(EXAMPLE, &[], &[]).unwrap();
    let commented_out = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        matches!(words.as_slice(), ["#", _, "=", ..])
    };
    let whole: Vec<&str> =
        EXAMPLE.lines().map(|line| if commented_out(line) { &line[2..] } else { line }).collect();
    let (config, warnings) = load_text(&whole.join("\n"), &[], &[]).unwrap();
    assert_eq!(warnings, []);
    let checkout = StreamName::new("checkout").unwrap();
    let default = Config::default();
    for key in KEYS {
        let path = key.path_for(Some(&checkout));
        let place = config.origins.get(&path);
        assert!(matches!(place, Some(Place::File { .. })), "{path} is not in the example");
        if matches!(key.at, At::Service(_)) && key.path != "log.format" {
            assert_eq!(value(&config, &path).0, value(&default, &path).0, "{path}");
        }
    }
    let checkout = stream(&config, "checkout");
    assert_eq!(
        checkout.rules.adapter,
        AdapterRule::Json {
            key: Some("/customer/id".into()),
            kind: Some("/type".into()),
            time: Some("/timestamp".into()),
            id: Some("/messageId".into()),
        }
    );
    assert_eq!(checkout.rules.required[1], ["/properties/price"]);
    let price = ("/properties/price".to_owned(), vec![JsonType::Number, JsonType::Null]);
    assert!(checkout.rules.types.contains(&price));
}

#[test]
fn the_table_tells_the_defaults_that_are_in_force() {
    let default = Config::default();
    for key in KEYS.iter().filter(|key| matches!(key.at, At::Service(_))) {
        let expected = key.default.replace("DATA_DIR", "./eventkit-data");
        if key.path != "log.format" {
            assert_eq!(value(&default, key.path), (expected, "default".to_owned()), "{}", key.path);
        }
    }
}

#[test]
fn nothing_needs_to_be_said() {
    let (config, warnings) = load(Sources::default()).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.data_dir, Path::new("./eventkit-data"));
    assert_eq!(config.streams.len(), 4);
    assert_eq!(stream(&config, "events").rules, StreamRules::segment_strict());
    assert_eq!(stream(&config, "default").rules, StreamRules::lenient());
}

#[test]
fn an_option_beats_a_variable_beats_the_file_beats_the_default() {
    let text = "max_streams = 10\nlisten = \"127.0.0.1:1\"\nmetrics_listen = \"127.0.0.1:2\"\n";
    let env = [("EVENTKIT_MAX_STREAMS", "11"), ("EVENTKIT_LISTEN", "127.0.0.1:3")];
    let (config, _) = load_text(text, &env, &[("listen", "127.0.0.1:4")]).unwrap();
    let shown = |key: &str| {
        let (value, origin) = value(&config, key);
        format!("{value} {origin}")
    };
    assert_eq!(shown("auto_create"), "true default");
    assert_eq!(shown("metrics_listen"), "\"127.0.0.1:2\" e.toml:3");
    assert_eq!(shown("max_streams"), "11 EVENTKIT_MAX_STREAMS");
    assert_eq!(shown("listen"), "\"127.0.0.1:4\" --listen");
}

#[test]
fn every_mistake_of_a_file_is_told_with_its_place() {
    let text = r#"listen = 8000
data_dirr = "/x"
auto_create = "yes"
max_streams = 0
shutdown_timeout = 30
max_streams = 3
bytes_max = "1 MiB"
wal = 3

[load]
events_max = 1.5
bytes_max = "8 MiX"
"ä" = 1
[store]
kind = "gcs"
prefix = "../up"
[log]
level = "=="
format = "xml"
[wall]
[streams.Bad]
[streams.ok]
adapter = "cloudevents"
partitions = 0
patitions = 1
required = []
[streams.ok.validate]
required = ["a..b"]
types = { a = "text" }
timestamps = [1]
"#;
    let expected = [
        "e.toml:1:10: listen: must be an address such as \"127.0.0.1:8000\", not an integer",
        "e.toml:2:1: data_dirr: there is no such key; did you mean data_dir?",
        "e.toml:3:15: auto_create: must be true or false, not text",
        "e.toml:4:15: max_streams: 0 is not between 1 and 10000",
        "e.toml:5:20: shutdown_timeout: must be a duration such as \"30s\", not an integer",
        "e.toml:6:1: max_streams: it is there a second time",
        "e.toml:7:1: bytes_max: there is no such key",
        "e.toml:8:7: wal: must be a table, not an integer",
        "e.toml:11:14: load.events_max: must be an integer, not a fraction",
        "e.toml:12:13: load.bytes_max: \"8 MiX\" is not a size such as \"8 MiB\"",
        "e.toml:13:1: load.ä: there is no such key",
        "e.toml:15:8: store.kind: \"gcs\" is not \"lake\" or \"firestore\"",
        "e.toml:16:10: store.prefix: \"../up\" is not an object key's prefix",
        "e.toml:18:9: log.level: \"==\" is not a filter such as \"info\" or \"info,eventkit=debug\": \"==\" names none of off, error, warn, info, debug, trace",
        "e.toml:19:10: log.format: \"xml\" is not \"text\" or \"json\"",
        "e.toml:20:2: wall: there is no such key; did you mean wal?",
        "e.toml:21:10: streams.Bad: stream name \"Bad\" is not [a-z0-9][a-z0-9_-]{0,63}",
        "e.toml:23:11: streams.ok.adapter: \"cloudevents\" is not \"segment\" or \"json\"",
        "e.toml:24:14: streams.ok.partitions: 0 is not between 1 and 1024",
        "e.toml:25:1: streams.ok.patitions: there is no such key; did you mean partitions?",
        "e.toml:26:1: streams.ok.required: there is no such key; did you mean validate.required?",
        "e.toml:28:12: streams.ok.validate.required: \"a..b\" is not a field such as \"user.id\" or \"/user/id\"",
        "e.toml:29:9: streams.ok.validate.types: \"text\" is not a type: there are string, number, integer, boolean, object, array, null",
        "e.toml:30:14: streams.ok.validate.timestamps: must be a field's name, not an integer",
    ];
    let found = mistakes(text, &[], &[]);
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn a_filter_without_a_known_level_is_a_mistake() {
    let expects = "is not a filter such as \"info\" or \"info,eventkit=debug\"";
    let levels = "off, error, warn, info, debug, trace";
    for (text, culprit) in [
        ("wran", "wran"),
        ("info,eventkit", "eventkit"),
        ("eventkit=debgu,info", "eventkit=debgu"),
        ("eventkit=", "eventkit="),
        ("info, debug", " debug"),
        ("info, eventkit=debug", " eventkit=debug"),
        ("7", "7"),
    ] {
        let file = format!("[log]\nlevel = {text:?}\n");
        let mistake = format!("log.level: {text:?} {expects}: {culprit:?} names none of {levels}");
        assert_eq!(mistakes(&file, &[], &[]), [format!("e.toml:2:9: {mistake}")]);
        let env = [("EVENTKIT_LOG_LEVEL", text)];
        assert_eq!(mistakes("", &env, &[]), [format!("EVENTKIT_LOG_LEVEL: {mistake}")]);
    }
    for text in ["", ",", "ä=info"] {
        let file = format!("[log]\nlevel = {text:?}\n");
        assert_eq!(
            mistakes(&file, &[], &[]),
            [format!("e.toml:2:9: log.level: {text:?} {expects}")]
        );
    }
    for text in ["WARN", "off", "info,", "info,eventkit=debug", "error,a::b=trace,[span{x=1}]=info"]
    {
        let (config, _) = load_text("", &[("EVENTKIT_LOG_LEVEL", text)], &[]).unwrap();
        assert_eq!(config.log.level, text);
    }
}

#[test]
fn broken_syntax_is_told_alone() {
    assert_eq!(
        mistakes("x = 1\nlisten = \n", &[], &[]),
        [
            "e.toml:2:10: the file is not TOML: string values must be quoted, expected literal string"
        ]
    );
}

#[test]
fn a_file_that_cannot_be_read_is_a_mistake() {
    let sources =
        Sources { file: Some(PathBuf::from("/nonexistent/eventkit.toml")), ..Sources::default() };
    assert_eq!(
        load(sources).unwrap_err().to_string(),
        "/nonexistent/eventkit.toml:1:1: the file can't be read: No such file or directory (os error 2)"
    );
}

#[test]
fn a_file_that_is_no_configuration_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("e.toml");
    let say = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let sources = Sources { file: Some(file.clone()), ..Sources::default() };
        load(sources).unwrap_err().0.remove(0).sentence
    };
    assert_eq!(say(b"x = \"\xff\""), "the file is not UTF-8 at byte 5");
    let large = vec![b'#'; (1 << 20) + 1];
    assert_eq!(say(&large), "the file is larger than 1 MiB");
    for deep in [
        format!("x = {}", "[".repeat(500_000)),
        format!("x = {}", "{a=".repeat(300_000)),
        format!("{}x = 1", "a.".repeat(500_000)),
        format!("[{}x]", "a.".repeat(500_000)),
    ] {
        assert!(!say(deep.as_bytes()).is_empty());
    }
}

#[test]
fn settings_that_contradict_each_other_are_mistakes() {
    let text = "listen = \"0.0.0.0:80\"\nmetrics_listen = \"0.0.0.0:80\"\nmax_streams = 2\n[wal]\nbytes_max = \"4 MiB\"\n[ingest]\nevent_bytes_max = \"32 MiB\"\n[load]\nmemory_bytes_max = \"4 MiB\"\n[streams.a.json]\nkey = \"x\"\n";
    assert_eq!(
        mistakes(text, &[], &[]),
        [
            "e.toml:1:10: listen: 0.0.0.0:80 is not a loopback address, and anyone who reaches it could send events; set ingest.allow_remote = true if that is meant",
            "e.toml:2:18: metrics_listen: 0.0.0.0:80 is taken by listen",
            "e.toml:5:13: wal.bytes_max: 4 MiB is less than wal.segment_bytes = 8 MiB",
            "e.toml:7:19: ingest.event_bytes_max: 32 MiB is more than wal.segment_bytes = 8 MiB",
            "e.toml:7:19: ingest.event_bytes_max: 32 MiB is more than what a log's record may have = 1 MiB",
            "e.toml:7:19: ingest.event_bytes_max: 32 MiB is more than wal.queue_bytes_max = 8 MiB",
            "e.toml:7:19: ingest.event_bytes_max: 32 MiB is more than ingest.inflated_bytes_max = 16 MiB",
            "e.toml:9:20: load.memory_bytes_max: 4 MiB is less than load.bytes_max = 8 MiB",
            "e.toml:3:15: max_streams: 2 is less than the 5 streams that are declared",
            "e.toml:11:7: streams.a.json.key: it needs adapter = \"json\" in the stream's table",
        ]
    );
    let long = format!("/{}", "d".repeat(200));
    assert_eq!(
        mistakes("", &[("EVENTKIT_ADMIN_SOCKET", &long)], &[]),
        [
            "EVENTKIT_ADMIN_SOCKET: admin_socket: the path has 201 bytes, and a Unix socket's may have 107"
        ]
    );
}

#[test]
fn variables_and_options_tell_their_names() {
    let env = [
        ("EVENTKIT_MAX_STREAMS", "many"),
        ("EVENTKIT_AUTO_CREATE", "maybe"),
        ("EVENTKIT_LISTEN", ""),
        ("EVENTKIT_EVENT_STORE", "bigtable"),
        ("EVENTKIT_QUEUE_MODE", "kafka"),
        ("EVENTKIT_STREAMS_A_B_ADAPTER", "json"),
    ];
    assert_eq!(
        mistakes("", &env, &[("listen", "here"), ("nope", "1")]),
        [
            "EVENTKIT_EVENT_STORE: store.kind: \"bigtable\" is not \"lake\", \"firestore\" or \"bigquery\"",
            "EVENTKIT_MAX_STREAMS: max_streams: \"many\" is not an integer",
            "EVENTKIT_AUTO_CREATE: auto_create: \"maybe\" is not true or false",
            "EVENTKIT_QUEUE_MODE: queue.mode: \"kafka\" is not \"local\" (or \"async\", which is the same) or \"pubsub\"",
            "EVENTKIT_STREAMS_A_B_ADAPTER: A_B may be written with _ or with -; declare the stream in the file",
            "--listen: listen: \"here\" is not an address such as \"127.0.0.1:8000\"",
            "--nope: nope: there is no such key",
        ]
    );
}

#[test]
fn several_instances_need_a_project_and_roles_need_several_instances() {
    let mode = ("EVENTKIT_QUEUE_MODE", "pubsub");
    assert_eq!(
        mistakes("role = \"collect\"\n[queue]\nendpoint = \"http://h:1\"", &[], &[]),
        [
            "e.toml:1:8: role: it needs queue.mode = \"pubsub\"",
            "e.toml:3:12: queue.endpoint: it needs queue.mode = \"pubsub\"",
        ]
    );
    assert_eq!(
        mistakes("", &[mode, ("EVENTKIT_QUEUE_TOPIC", "goog-x")], &[]),
        [
            "EVENTKIT_QUEUE_TOPIC: queue.topic: \"goog-x\" is not an id of 3 to 255 letters, \
             digits and -_.~+%, a letter first and not goog",
            "EVENTKIT_QUEUE_MODE: queue.mode: it needs google.project",
        ]
    );
    let env = [mode, ("GCP_PROJECT_ID", "p"), ("PUBSUB_EMULATOR_HOST", "h:1")];
    let (config, _) = load_text("", &env, &[("role", "process")]).unwrap();
    assert_eq!(config.queue.endpoint.as_deref(), Some("http://h:1"));
    assert_eq!((config.publishes(), config.pulls()), (false, true));
    let (config, _) = load_text("", &env[2..], &[]).unwrap();
    assert_eq!((config.queue.endpoint, config.role), (None, Role::All));
}

#[test]
fn odd_variables_are_warnings() {
    let env = [
        ("EVENTKIT_LISTN", "x"),
        ("EVENTKIT_ASYNC_WORKERS", "4"),
        ("EVENTKIT_WAREHOUSE_ENABLED", "false"),
        ("EVENTKIT_EVENT_STORE", "lake"),
        ("EVENTKIT_QUEUE_MODE", "async"),
        ("EVENTKIT_RING_BUFFER_MAX_SIZE", "1000000"),
        ("EVENTKIT_RING_BUFFER_RETENTION_HOURS", "36"),
        ("PATH", "/bin"),
    ];
    let (config, warnings) = load_text("", &env, &[]).unwrap();
    let lines: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "EVENTKIT_ASYNC_WORKERS: it has no effect: each stream has a worker of its own",
            "EVENTKIT_RING_BUFFER_MAX_SIZE: a log is bounded in bytes: taken as wal.bytes_max = 1024000000, 1 KiB an event; set that instead",
            "EVENTKIT_LISTN: there is no such setting; did you mean EVENTKIT_LISTEN?",
        ]
    );
    assert_eq!(config.wal.bytes_max, 1_024_000_000);
    assert_eq!(config.wal.retention, std::time::Duration::from_secs(36 * 3600));
}

#[test]
fn an_older_names_retention_is_a_number_of_hours_and_the_keys_own_name_wins() {
    let older = |value| ("EVENTKIT_RING_BUFFER_RETENTION_HOURS", value);
    let (config, warnings) =
        load_text("", &[older("36"), ("EVENTKIT_WAL_RETENTION", "10min")], &[]).unwrap();
    assert_eq!(config.wal.retention, std::time::Duration::from_secs(600));
    assert!(warnings.is_empty(), "{warnings:?}");
    for (value, why) in [("1.5", "\"1.5\" is not a number of hours"), ("9000", "wal.retention: ")] {
        let said = mistakes("", &[older(value)], &[]).remove(0);
        let says = format!("EVENTKIT_RING_BUFFER_RETENTION_HOURS: {why}");
        assert!(said.starts_with(&says), "{said}");
    }
}

#[test]
fn systemds_directories_are_the_defaults_under_systemd() {
    let env = [("STATE_DIRECTORY", "/var/lib/e:/x"), ("RUNTIME_DIRECTORY", "/run/e")];
    let (config, _) = load_text("", &env, &[]).unwrap();
    assert_eq!(config.data_dir, Path::new("/var/lib/e"));
    assert_eq!(config.admin_socket, Path::new("/run/e/admin.sock"));
    assert_eq!(config.store.path, Path::new("/var/lib/e/lake"));
    let (config, _) = load_text("data_dir = \"/d\"", &env[..1], &[]).unwrap();
    assert_eq!(config.admin_socket, Path::new("/d/admin.sock"));
}

#[test]
fn googles_older_names_mean_the_bucket_and_the_project() {
    let env = [
        ("GCP_PROJECT_ID", "my-project-1"),
        ("GCP_GCS_BUCKET", "events-lake"),
        ("STORAGE_EMULATOR_HOST", "127.0.0.1:4443"),
    ];
    let (config, warnings) = load_text("", &env, &[]).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(config.google.project.as_deref(), Some("my-project-1"));
    assert_eq!(config.store.bucket, Bucket::parse("gs://events-lake"));
    assert_eq!(value(&config, "store.bucket").1, "GCP_GCS_BUCKET");
    let endpoint = ("\"http://127.0.0.1:4443\"".to_owned(), "STORAGE_EMULATOR_HOST".to_owned());
    assert_eq!(value(&config, "store.endpoint"), endpoint);
    assert_eq!(
        mistakes("", &[("GCP_GCS_BUCKET", "Events"), ("GCP_PROJECT_ID", "my project")], &[]),
        [
            "GCP_GCS_BUCKET: store.bucket: \"gs://Events\" is not a bucket such as \"gs://events\" or \"s3://events\"",
            "GCP_PROJECT_ID: google.project: \"my project\" is not a project's id such as \"my-project-1\"",
        ]
    );
}

#[test]
fn what_the_configuration_says_of_a_bucket_goes_before_the_older_names() {
    let text = "[store]\nbucket = \"gs://one\"\nendpoint = \"https://storage.example\"\n";
    let env = [("EVENTKIT_STORE_BUCKET", "gs://two"), ("GCP_GCS_BUCKET", "three")];
    let emulator = ("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1");
    let (config, _) = load_text(text, &[env[0], env[1], emulator], &[]).unwrap();
    assert_eq!(config.store.bucket, Bucket::parse("gs://two"));
    assert_eq!(config.store.endpoint.as_deref(), Some("https://storage.example"));
    let (config, _) = load_text("[store]\nbucket = \"gs://one\"\n", &env[1..], &[]).unwrap();
    assert_eq!(config.store.bucket, Bucket::parse("gs://three"), "a variable beats the file");
    for text in ["", "[store]\nbucket = \"s3://b\"\n"] {
        let (config, _) = load_text(text, &[emulator], &[]).unwrap();
        assert_eq!(config.store.endpoint, None, "an emulator of Google's is not for {text:?}");
    }
}

#[test]
fn a_buckets_keys_need_a_bucket_of_their_kind() {
    let text = "[store]\nendpoint = \"http://127.0.0.1:1\"\n";
    assert_eq!(mistakes(text, &[], &[]), ["e.toml:2:12: store.endpoint: it needs a store.bucket"]);
    let text = "[store]\nbucket = \"gs://b\"\nregion = \"eu-central-1\"\n";
    let sentence = "e.toml:3:10: store.region: it needs a store.bucket of s3://";
    assert_eq!(mistakes(text, &[], &[]), [sentence]);
    for url in ["b", "http://b", "gs://", "gs://a/b", "az://b", "s3://B"] {
        let text = format!("[store]\nbucket = {url:?}\n");
        let told = mistakes(&text, &[], &[]);
        assert!(told.len() == 1 && told[0].contains(url), "{told:?}");
    }
}

#[test]
fn a_stream_changes_only_what_its_table_says() {
    let text = "partitions = 4\n[streams.events.validate]\nrequired = []\n[streams.users]\npartitions = 8\n[streams.hook]\nadapter = \"json\"\n[streams.hook.json]\ntime = \"at\"\n";
    let (config, _) = load_text(text, &[], &[]).unwrap();
    let events = stream(&config, "events");
    let strict = StreamRules::segment_strict();
    assert_eq!(events.rules.required, Vec::<Vec<String>>::new());
    assert_eq!((&events.rules.types, events.partitions), (&strict.types, 4));
    assert_eq!(stream(&config, "users").partitions, 8);
    assert_eq!(stream(&config, "users").rules, strict);
    assert_eq!(stream(&config, "hook").rules.timestamps, ["/at"]);
    assert_eq!(config.default_stream.partitions, 4);
    assert_eq!(value(&config, "streams.hook.json.time"), ("\"/at\"".into(), "e.toml:9".into()));
}

#[test]
fn a_streams_variable_finds_the_stream_that_is_meant() {
    let env = [
        ("EVENTKIT_STREAMS_MY_SHOP_PARTITIONS", "2"),
        ("EVENTKIT_STREAMS_EVENTS_VALIDATE_REQUIRED", "userId|anonymousId, properties.x"),
        ("EVENTKIT_STREAMS_EVENTS_VALIDATE_TYPES", "a.b=string|null"),
        ("EVENTKIT_STREAMS_NEW_ADAPTER", "json"),
    ];
    let (config, _) = load_text("[streams.my-shop]\n", &env, &[]).unwrap();
    assert_eq!(stream(&config, "my-shop").partitions, 2);
    let events = &stream(&config, "events").rules;
    assert_eq!(events.required[1], ["/properties/x"]);
    assert_eq!(events.types, [("/a/b".to_owned(), vec![JsonType::String, JsonType::Null])]);
    assert!(matches!(stream(&config, "new").rules.adapter, AdapterRule::Json { .. }));
}

#[test]
#[cfg(all(feature = "bigquery", feature = "gcs"))]
fn a_warehouse_needs_a_bucket_of_googles_a_dataset_and_a_project() {
    assert_eq!(
        mistakes("[warehouse]\nkind = \"bigquery\"\n[store]\nbucket = \"s3://b\"\n", &[], &[]),
        [
            "e.toml:2:8: warehouse.kind: it needs a store.bucket of gs://: BigQuery loads from there",
            "e.toml:2:8: warehouse.kind: it needs a warehouse.dataset",
            "e.toml:2:8: warehouse.kind: it needs a google.project",
        ]
    );
    let text = "[warehouse]\nkind = \"bigquery\"\ndataset = \"d\"\n[google]\nproject = \"p\"\n\
                [store]\nkind = \"firestore\"\nbucket = \"gs://b\"\n";
    let lacks = "it needs a store.bucket of gs://: BigQuery loads from there";
    assert_eq!(
        mistakes(text, &[], &[]),
        [format!("e.toml:2:8: warehouse.kind: {lacks}")],
        "documents are no objects"
    );
    let env = [
        ("EVENTKIT_EVENT_STORE", "bigquery"),
        ("GCP_PROJECT_ID", "p"),
        ("GCP_GCS_BUCKET", "b"),
        ("GCP_BIGQUERY_DATASET", "d"),
        ("GCP_BIGQUERY_TABLE", "raw_{stream}"),
        ("BIGQUERY_EMULATOR_HOST", "127.0.0.1:9050"),
        ("EVENTKIT_WAREHOUSE_INTERVAL", "10s"),
    ];
    let (config, warnings) = load_text("", &env, &[]).unwrap();
    let warehouse = &config.warehouse;
    assert_eq!(warehouse.kind, WarehouseKind::BigQuery);
    assert_eq!(
        (warehouse.dataset.as_deref(), warehouse.table.as_str()),
        (Some("d"), "raw_{stream}")
    );
    assert_eq!(warehouse.endpoint.as_deref(), Some("http://127.0.0.1:9050"));
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "EVENTKIT_WAREHOUSE_INTERVAL: warehouse.interval makes up to 8640 load jobs a table a day, and BigQuery takes 1500: set 58s or more"
        ]
    );
    let off = [("EVENTKIT_WAREHOUSE_ENABLED", "false"), ("GCP_BIGQUERY_DATASET", "d")];
    assert_eq!(load_text("", &off, &[]).unwrap().0.warehouse.kind, WarehouseKind::None);
}

#[test]
fn what_is_listed_can_be_given_again() {
    let (config, _) = load_text(EXAMPLE, &[], &[]).unwrap();
    let text: Vec<String> = config
        .describe()
        .iter()
        .filter(|line| !line.value.is_empty())
        .map(|line| format!("{} = {}", line.key, line.value))
        .collect();
    let (again, _) = load_text(&text.join("\n"), &[], &[]).unwrap();
    let values = |config: &Config| -> Vec<String> {
        config.describe().into_iter().map(|line| line.value).collect()
    };
    assert_eq!(values(&again), values(&config));
}

#[test]
fn no_two_keys_share_a_variable() {
    let mut variables: Vec<String> = KEYS.iter().map(Key::variable).collect();
    variables.sort();
    variables.dedup();
    assert_eq!(variables.len(), KEYS.len());
    assert_eq!(Key::find("store.kind").unwrap().variable(), "EVENTKIT_STORE_KIND");
    assert!(reference().contains("| `wal.bytes_max` | `\"4 GiB\"` |"));
}

proptest! {
    #[test]
    fn no_text_panics(
        any_text in "\\PC{0,60}",
        tomlish in "([a-z_.]{1,8}|\\[streams\\.[a-zA-Z]{1,3}\\]|wal|listen| = |\"|[0-9]{1,20}|\\{|\\}|\\[|\\]|\n){0,24}",
        at in 0..EXAMPLE.len(),
        byte in any::<u8>(),
    ) {
        let mut torn = EXAMPLE.as_bytes().to_vec();
        torn[at] = byte;
        let torn = String::from_utf8_lossy(&torn);
        for text in [any_text.as_str(), tomlish.as_str(), &torn, &torn[..torn.floor_char_boundary(at)]] {
            file::read_toml(&mut Draft::default(), Path::new("e.toml"), text);
        }
    }

    #[test]
    fn no_variable_panics(name in "EVENTKIT_[A-Z_]{0,24}", value in "\\PC{0,20}") {
        let mut env = vec![(name, value.clone())];
        env.extend(KEYS.iter().map(|key| (key.variable(), value.clone())));
        let mut draft = Draft::default();
        env::read(&mut draft, &env);
    }
}

#[test]
fn firestore_has_batches_of_its_own_size_unless_they_are_set() {
    let env = [
        ("EVENTKIT_EVENT_STORE", "firestore"),
        ("GCP_PROJECT_ID", "shop"),
        ("FIRESTORE_EMULATOR_HOST", "127.0.0.1:8086"),
        ("STORAGE_EMULATOR_HOST", "127.0.0.1:4443"),
    ];
    let shown = |text: &str| {
        let (config, warnings) = load_text(text, &env, &[]).unwrap();
        assert_eq!(warnings, []);
        let keys = ["store.kind", "store.endpoint", "load.events_max", "load.age_max"];
        keys.map(|key| value(&config, key)).map(|(value, origin)| format!("{value} {origin}"))
    };
    let kind = "\"firestore\" EVENTKIT_EVENT_STORE";
    let endpoint = "\"http://127.0.0.1:8086\" FIRESTORE_EMULATOR_HOST";
    let age = "\"1s\" EVENTKIT_EVENT_STORE";
    assert_eq!(shown(""), [kind, endpoint, "500 EVENTKIT_EVENT_STORE", age].map(String::from));
    let set = "[load]\nevents_max = 2000\n";
    assert_eq!(shown(set), [kind, endpoint, "2000 e.toml:2", age].map(String::from));
}

#[test]
fn what_only_firestore_has_or_needs_is_told() {
    let text = "[store]\nkind = \"firestore\"\n";
    assert_eq!(
        mistakes(text, &[], &[]),
        ["e.toml:2:8: store.kind: firestore needs google.project"]
    );
    let text = "[store]\ndatabase = \"events\"\ncollection = \"c\"\n";
    let needs = "it needs store.kind = \"firestore\"";
    let expected = [("2:12", "database"), ("3:14", "collection")];
    let expected = expected.map(|(at, key)| format!("e.toml:{at}: store.{key}: {needs}"));
    assert_eq!(mistakes(text, &[], &[]), expected);
    for (key, value) in
        [("database", "d"), ("database", "Äbc"), ("collection", "__a__"), ("collection", "a/b")]
    {
        let text = format!("[store]\n{key} = {value:?}\n");
        let found = mistakes(&text, &[], &[]);
        assert!(found[0].contains(&format!("{value:?} is not a {key}'s ")), "{found:?}");
    }
    let text = "[store]\nkind = \"firestore\"\nbucket = \"gs://b\"\n[google]\nproject = \"shop\"\n";
    let (_, warnings) = load_text(text, &[], &[]).unwrap();
    assert_eq!(warnings[0].sentence, "gs://b is not used: events go to Firestore");
}
