//! How `relay` and `mirror` reach Amazon Kinesis.

/// How to reach Kinesis.
#[derive(Debug, clap::Args)]
pub(crate) struct KinesisArgs {
    /// The AWS region, such as eu-west-1
    #[arg(long)]
    pub(crate) region: Option<String>,
    /// The AWS profile in ~/.aws
    #[arg(long)]
    pub(crate) profile: Option<String>,
    /// The Kinesis endpoint, if it is not Amazon's, such as http://127.0.0.1:4567
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint_url: Option<String>,
}

#[cfg(feature = "relay-kinesis")]
impl KinesisArgs {
    pub(crate) fn client(&self) -> Result<streamlog::relay::KinesisClient, crate::failure::Failure> {
        let mut client = streamlog::relay::KinesisClient::options();
        if let Some(region) = &self.region {
            client = client.region(region);
        }
        if let Some(profile) = &self.profile {
            client = client.profile(profile);
        }
        if let Some(url) = &self.endpoint_url {
            client = client.endpoint_url(url);
        }
        Ok(client.connect()?)
    }
}
