//! Server-side encryption, switched on and off.

use super::lifecycle::{in_last_day, with_now};
use super::{Answered, Call, Fault, Input, Reply};
use crate::Error;

/// How often encryption may be changed in a day.
const CHANGES_MAX: usize = 25;

pub(super) fn start(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    check_type(&input)?;
    set(call, &input, Some(input.required("KeyId")))
}

pub(super) fn stop(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    check_type(&input)?;
    set(call, &input, None)
}

fn check_type(input: &Input<'_>) -> Answered<()> {
    match input.required("EncryptionType") {
        "KMS" => Ok(()),
        other => Err(Fault::invalid(format!("EncryptionType {other} is not valid here: it must be KMS."))),
    }
}

fn set(call: &Call<'_>, input: &Input<'_>, key_id: Option<&str>) -> Answered<Reply> {
    let known = call.stream(input)?;
    let has_quotas = call.service.catalogue.behaviour().has_quotas();
    known.change(|changing| {
        let changes = in_last_day(&known.settings().encryption_changes, changing.now);
        if has_quotas && changes.len() >= CHANGES_MAX {
            return Err(Fault::limit(format!(
                "The encryption of stream {} may be changed {CHANGES_MAX} times in 24 hours.",
                known.name
            )));
        }
        let set_settings = |key_id: Option<&str>| {
            changing.set(|settings| {
                settings.encryption_changes = with_now(changes, changing.now);
                settings.key_id = key_id.map(str::to_owned);
            })
        };
        // Whatever a crash leaves in between, a stream shown as encrypted is encrypted.
        match key_id {
            Some(key_id) => {
                known.stream.set_encrypted(true).map_err(|error| match error {
                    Error::KeyUnavailable(_) => Fault::key_not_found(format!(
                        "Key '{key_id}' does not exist: this server has no file of keys."
                    )),
                    error => known.failed(&error),
                })?;
                set_settings(Some(key_id))
            }
            None => {
                set_settings(None)?;
                known.stream.set_encrypted(false).map_err(|error| known.failed(&error))
            }
        }
    })?;
    Ok(Reply::Empty)
}
