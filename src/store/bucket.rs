//! A bucket as it is configured: its client, its credentials, how long it is waited for.

use std::sync::Arc;

use object_store::ObjectStore;

use crate::config::{Bucket, BucketService, GoogleConfig, StoreConfig};

/// A bucket that can't be used as it is configured.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BucketError(String);

/// The client of a bucket; nothing is asked yet.
pub(super) fn open(
    bucket: &Bucket,
    config: &StoreConfig,
    google: &GoogleConfig,
) -> Result<Arc<dyn ObjectStore>, BucketError> {
    match bucket.service {
        BucketService::Gcs => gcs(bucket, config, google),
        BucketService::S3 => s3(bucket, config),
    }
}

#[cfg(feature = "gcs")]
fn gcs(
    bucket: &Bucket,
    config: &StoreConfig,
    google: &GoogleConfig,
) -> Result<Arc<dyn ObjectStore>, BucketError> {
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
        let credentials = crate::google::Credentials::find(google);
        let credentials = credentials.map_err(|error| BucketError(error.to_string()))?;
        builder.with_credentials(Arc::new(lent::Lent(credentials)))
    };
    built(bucket, builder.build())
}

/// The credentials of all of Google's services, lent to this client: by itself it knows none that
/// are federated.
#[cfg(feature = "gcs")]
mod lent {
    use std::pin::Pin;
    use std::sync::Arc;

    use object_store::gcp::GcpCredential;
    use object_store::{CredentialProvider, Error, Result};

    use crate::google::Credentials;
    use crate::store::answer::NoToken;

    #[derive(Debug)]
    pub struct Lent(pub Credentials);

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
                let bearer = self.0.token().await.map_err(|sentence| Error::Generic {
                    store: "GCS",
                    source: Box::new(NoToken(sentence)),
                })?;
                Ok(Arc::new(GcpCredential { bearer }))
            })
        }
    }
}

#[cfg(feature = "s3")]
fn s3(bucket: &Bucket, config: &StoreConfig) -> Result<Arc<dyn ObjectStore>, BucketError> {
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
    built(bucket, builder.build())
}

#[cfg(any(feature = "gcs", feature = "s3"))]
fn built<S: ObjectStore>(
    bucket: &Bucket,
    built: object_store::Result<S>,
) -> Result<Arc<dyn ObjectStore>, BucketError> {
    match built {
        Ok(storage) => Ok(Arc::new(storage)),
        Err(error) => Err(BucketError(format!("{bucket}: {}", crate::sentence::cause(&error)))),
    }
}

#[cfg(not(feature = "gcs"))]
fn gcs(_: &Bucket, _: &StoreConfig, _: &GoogleConfig) -> Result<Arc<dyn ObjectStore>, BucketError> {
    Err(BucketError("this eventkit was built without the feature `gcs`".to_owned()))
}

#[cfg(not(feature = "s3"))]
fn s3(_: &Bucket, _: &StoreConfig) -> Result<Arc<dyn ObjectStore>, BucketError> {
    Err(BucketError("this eventkit was built without the feature `s3`".to_owned()))
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
