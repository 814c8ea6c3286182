//! The lake in a bucket, which is in memory.

use object_store::memory::InMemory;
use object_store::{Attribute, Attributes, ObjectStore, PutOptions};
use uuid::Uuid;

use super::*;
use crate::event::TypedEvent;

const LOG: u128 = 7;

fn events() -> StreamName {
    StreamName::new("events").unwrap()
}

fn batch(id: u128, payload: &str) -> Arc<Batch> {
    let mut batch = Batch::new(Uuid::from_u128(id), events(), LOG);
    for seq in [4, 9] {
        let event = TypedEvent {
            kind: "track".into(),
            message_id: format!("m{seq}").into(),
            ..TypedEvent::default()
        };
        assert!(batch.push(seq, 0, 0, payload.as_bytes(), &event));
    }
    Arc::new(batch)
}

fn lake() -> (Lake, Arc<InMemory>) {
    let storage = Arc::new(InMemory::new());
    let objects = Objects::bucket("gs://b".to_owned(), Arc::clone(&storage) as _);
    (Lake::new(objects, "lake"), storage)
}

async fn listed(lake: &Lake) -> Vec<String> {
    let listing = lake.list(&events(), LOG, 0, 0).await.unwrap().unwrap();
    assert!(listing.unreadable.is_empty(), "{:?}", listing.unreadable);
    let mut objects: Vec<String> = listing.found.into_iter().map(|found| found.object).collect();
    objects.sort();
    objects
}

#[tokio::test]
async fn a_batch_that_is_there_is_stored_again_without_a_second_object() {
    let (lake, _) = lake();
    let batch = batch(1, "{}");
    let stored = lake.put(&batch).await.unwrap();
    assert_eq!(lake.put(&batch).await.unwrap(), stored);
    assert_eq!(listed(&lake).await, [stored.object.as_str()]);
    assert_eq!(lake.hours(&events()).await.unwrap(), [0]);
    let ids = lake.message_ids(&stored.object).await.unwrap();
    assert_eq!(ids, Some(vec!["m4".to_owned(), "m9".to_owned()]));
}

#[tokio::test]
async fn another_content_under_a_batchs_name_stays_and_the_batch_goes_beside_it() {
    let (lake, _) = lake();
    let first = lake.put(&batch(1, r#"{"a":1}"#)).await.unwrap();
    let second = lake.put(&batch(1, r#"{"a":2}"#)).await.unwrap();
    assert_ne!(first.object, second.object);
    assert_eq!(listed(&lake).await.len(), 2);
    assert_eq!(lake.put(&batch(1, r#"{"a":2}"#)).await.unwrap(), second);
}

#[tokio::test]
async fn a_plan_is_found_by_the_metadata_and_without_them_by_the_footer() {
    let (lake, storage) = lake();
    let batch = batch(1, "{}");
    let plan = batch.plan(lake.object(&batch));
    assert_eq!(lake.find(&plan).await.unwrap(), None);
    let stored = lake.put(&batch).await.unwrap();
    assert_eq!(lake.find(&plan).await.unwrap(), Some(stored.clone()));
    // A copy that lost them, as some tools make.
    let key = Key::from(plan.object.as_str());
    let file = storage.get(&key).await.unwrap().bytes().await.unwrap();
    storage.put(&key, file.into()).await.unwrap();
    assert_eq!(lake.objects.standing(&key).await.unwrap().unwrap().digest, None);
    assert_eq!(lake.find(&plan).await.unwrap(), Some(stored));
}

#[tokio::test]
async fn an_object_that_says_to_hold_something_else_is_not_the_plans() {
    let (lake, storage) = lake();
    let batch = batch(1, "{}");
    let plan = batch.plan(lake.object(&batch));
    let key = Key::from(plan.object.as_str());
    let digest = Attribute::Metadata("eventkit-digest".into());
    let attributes = Attributes::from_iter([(digest, format!("{:032x}", plan.digest ^ 1))]);
    let options = PutOptions { attributes, ..PutOptions::default() };
    storage.put_opts(&key, "not Parquet".into(), options).await.unwrap();
    assert_eq!(lake.find(&plan).await.unwrap(), None);
    storage.put(&key, "not Parquet".into()).await.unwrap();
    assert_eq!(lake.find(&plan).await.unwrap(), None, "and neither one without a footer");
}
