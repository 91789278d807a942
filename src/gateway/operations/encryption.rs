//! Encryption of what is put.

use super::super::catalogue::internal;
use super::lifecycle::{in_last_day, with_now};
use super::{Answered, Call, Fault, Input, Reply};
use crate::Error;

/// How often encryption may be changed in a day.
const CHANGES_MAX: usize = 25;

pub(super) fn start(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    check_type(&input)?;
    set(call, &input, Some(input.required("KeyId").to_owned()))
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

fn set(call: &Call<'_>, input: &Input<'_>, key_id: Option<String>) -> Answered<Reply> {
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
        known.stream.set_encrypted(key_id.is_some()).map_err(|error| match error {
            Error::KeyUnavailable(_) => {
                let key_id = key_id.as_deref().unwrap_or_default();
                Fault::key_not_found(format!(
                    "Key '{key_id}' does not exist: this server has no file of keys."
                ))
            }
            error => internal(&error),
        })?;
        changing.set(|settings| {
            settings.encryption_changes = with_now(changes, changing.now);
            settings.key_id = key_id;
        })
    })?;
    Ok(Reply::Empty)
}
