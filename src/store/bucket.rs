//! A bucket as it is configured: its client, its credentials, how long it is waited for.

use std::sync::Arc;

use object_store::ObjectStore;

use crate::config::{Bucket, BucketService, GoogleConfig, StoreConfig};

/// A bucket that can't be used as it is configured.
#[derive(Debug, thiserror::Error)]
#[error("{bucket}: {why}")]
pub struct BucketError {
    bucket: Bucket,
    why: String,
}

/// The client of a bucket; nothing is asked yet.
pub(super) fn open(
    bucket: &Bucket,
    config: &StoreConfig,
    google: &GoogleConfig,
) -> Result<Arc<dyn ObjectStore>, BucketError> {
    let opened = match bucket.service {
        BucketService::Gcs => gcs(bucket, config, google),
        BucketService::S3 => s3(bucket, config),
    };
    opened.map_err(|why| BucketError { bucket: bucket.clone(), why })
}

#[cfg(feature = "gcs")]
fn gcs(
    bucket: &Bucket,
    config: &StoreConfig,
    google: &GoogleConfig,
) -> Result<Arc<dyn ObjectStore>, String> {
    use object_store::gcp::GoogleCloudStorageBuilder;

    let builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(&bucket.name)
        .with_retry(limits::retries())
        .with_client_options(limits::patience());
    let builder = match &config.endpoint {
        Some(endpoint) => builder.with_base_url(endpoint),
        None => builder,
    };
    // Without any, the client would look for some by itself.
    let builder = if config.endpoint.as_deref().is_some_and(crate::google::is_emulator) {
        builder.with_bearer_token(crate::google::OWNER)
    } else {
        let credentials = crate::google::credentials(google).map_err(|e| e.to_string())?;
        builder.with_credentials(Arc::new(lent::Lent(credentials)))
    };
    built(builder.build())
}

/// The credentials of all of Google's services, lent to this client: by itself it knows none that
/// are federated.
#[cfg(feature = "gcs")]
mod lent {
    use std::pin::Pin;
    use std::sync::Arc;

    use google_cloud_auth::credentials::AccessTokenCredentials;
    use object_store::gcp::GcpCredential;
    use object_store::{CredentialProvider, Error, Result};

    use crate::store::answer::{NoToken, cause};

    #[derive(Debug)]
    pub struct Lent(pub AccessTokenCredentials);

    impl CredentialProvider for Lent {
        type Credential = GcpCredential;

        fn get_credential<'s, 'f>(
            &'s self,
        ) -> Pin<Box<dyn Future<Output = Result<Arc<GcpCredential>>> + Send + 'f>>
        where
            's: 'f,
            Self: 'f,
        {
            Box::pin(async {
                let token = self.0.access_token().await.map_err(|error| Error::Generic {
                    store: "GCS",
                    source: Box::new(NoToken(cause(&error))),
                })?;
                Ok(Arc::new(GcpCredential { bearer: token.token }))
            })
        }
    }
}

#[cfg(feature = "s3")]
fn s3(bucket: &Bucket, config: &StoreConfig) -> Result<Arc<dyn ObjectStore>, String> {
    use object_store::aws::{AmazonS3Builder, S3CopyIfNotExists};

    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(&bucket.name)
        .with_copy_if_not_exists(S3CopyIfNotExists::Multipart)
        .with_retry(limits::retries())
        .with_client_options(limits::patience());
    if let Some(region) = &config.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
    }
    built(builder.build())
}

#[cfg(any(feature = "gcs", feature = "s3"))]
fn built<S: ObjectStore>(built: object_store::Result<S>) -> Result<Arc<dyn ObjectStore>, String> {
    match built {
        Ok(storage) => Ok(Arc::new(storage)),
        Err(error) => Err(super::answer::cause(&error)),
    }
}

#[cfg(not(feature = "gcs"))]
fn gcs(_: &Bucket, _: &StoreConfig, _: &GoogleConfig) -> Result<Arc<dyn ObjectStore>, String> {
    Err("this eventkit was built without the feature `gcs`".to_owned())
}

#[cfg(not(feature = "s3"))]
fn s3(_: &Bucket, _: &StoreConfig) -> Result<Arc<dyn ObjectStore>, String> {
    Err("this eventkit was built without the feature `s3`".to_owned())
}

#[cfg(any(feature = "gcs", feature = "s3"))]
mod limits {
    use std::time::Duration;

    use object_store::{ClientOptions, RetryConfig};

    /// How often and how long a client tries by itself. What it gives up is tried again by the
    /// delivery, where the operator sees it.
    pub fn retries() -> RetryConfig {
        let retry_timeout = Duration::from_secs(20);
        RetryConfig { max_retries: 2, retry_timeout, ..RetryConfig::default() }
    }

    /// How long a client waits.
    pub fn patience() -> ClientOptions {
        ClientOptions::new()
            .with_allow_http(true)
            .with_connect_timeout(Duration::from_secs(5))
            .with_timeout(Duration::from_secs(60))
    }
}
