//! Why a request to Amazon Kinesis failed, and what to do about it.

use std::error::Error as _;

use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};

pub(in crate::relay) use crate::relay::failure::{Failure, Remedy};

impl Failure {
    /// Returns the outcome of a request. `None` stands for one that panicked.
    pub(in crate::relay) fn check<T, E>(
        operation: &str,
        answer: Option<Result<T, SdkError<E>>>,
    ) -> Result<T, Self>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        match answer {
            Some(Ok(output)) => Ok(output),
            Some(Err(error)) => Err(Self::of(operation, &error)),
            None => Err(Self::new(Remedy::Retry, format!("{operation} failed: the client has panicked"))),
        }
    }

    fn of<E: ProvideErrorMetadata + std::error::Error + 'static>(
        operation: &str,
        error: &SdkError<E>,
    ) -> Self {
        if let (SdkError::ServiceError(answer), Some(code)) = (error, error.code()) {
            let status = answer.raw().status().as_u16();
            let text = match error.message() {
                Some(message) => format!("{operation} was refused with {code}: {message}"),
                None => format!("{operation} was refused with {code}"),
            };
            return Self::new(remedy_of(code, status), text);
        }
        let remedy = match error {
            SdkError::ServiceError(answer) if answer.raw().status().as_u16() < 500 => Remedy::Refused,
            _ => Remedy::Retry,
        };
        // The reason, such as a connection that was refused, is the innermost error.
        let (mut text, mut cause) = (error.to_string(), error.source());
        while let Some(inner) = cause {
            let inner_text = inner.to_string();
            if !text.ends_with(&inner_text) {
                text = format!("{text}: {inner_text}");
            }
            cause = inner.source();
        }
        Self::new(remedy, format!("{operation} failed: {text}"))
    }
}

fn remedy_of(code: &str, status: u16) -> Remedy {
    match code {
        "ProvisionedThroughputExceededException"
        | "LimitExceededException"
        | "KMSThrottlingException"
        | "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded"
        | "TooManyRequestsException" => Remedy::SlowDown,
        "ExpiredIteratorException" | "ExpiredNextTokenException" => Remedy::Renew,
        "ResourceNotFoundException" => Remedy::Missing,
        // The stream is changing.
        "ResourceInUseException" => Remedy::Retry,
        _ if status >= 500 => Remedy::Retry,
        _ => Remedy::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_of_kinesis_has_its_remedy() {
        let cases = [
            ("ProvisionedThroughputExceededException", 400, Remedy::SlowDown),
            ("LimitExceededException", 400, Remedy::SlowDown),
            ("ExpiredIteratorException", 400, Remedy::Renew),
            ("ResourceNotFoundException", 400, Remedy::Missing),
            ("InternalFailure", 500, Remedy::Retry),
            ("ServiceUnavailable", 503, Remedy::Retry),
            ("AccessDeniedException", 400, Remedy::Refused),
            ("InvalidArgumentException", 400, Remedy::Refused),
        ];
        for (code, status, remedy) in cases {
            assert_eq!(remedy_of(code, status), remedy, "{code}");
        }
    }
}
