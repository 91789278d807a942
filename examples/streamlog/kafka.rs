//! How `relay` and `mirror` reach Kafka.

/// How to reach Kafka.
#[derive(Debug, clap::Args)]
pub(crate) struct KafkaArgs {
    /// The Kafka brokers to connect to first, from which the others are found: HOST:PORT, separated by commas
    #[arg(long, value_name = "BROKERS")]
    pub(crate) bootstrap_servers: Option<String>,
    /// A librdkafka property, such as compression.type=lz4. May be repeated
    #[arg(long, value_name = "NAME=VALUE", requires = "bootstrap_servers")]
    pub(crate) property: Vec<String>,
}

#[cfg(feature = "relay-kafka")]
impl KafkaArgs {
    pub(crate) fn client(&self) -> Result<streamlog::relay::KafkaClient, crate::failure::Failure> {
        let mut client = streamlog::relay::KafkaClient::options();
        client = client.bootstrap_servers(self.bootstrap_servers.as_deref().unwrap_or_default());
        for property in &self.property {
            let Some((name, value)) = property.split_once('=') else {
                let reason = format!("{property:?} is not a property: write NAME=VALUE");
                return Err(crate::failure::Failure::Told(reason));
            };
            client = client.set(name, value);
        }
        Ok(client.connect()?)
    }
}
