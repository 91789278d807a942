//! Events for the crate `tracing`, which compile to nothing without the cargo feature of that name.

/// Emits an event: its level as `tracing` names it, what happened, and fields that implement `Display`.
#[cfg(feature = "tracing")]
macro_rules! event {
    ($level:ident, $what:literal $(, $field:ident = $value:expr)* $(,)?) => {
        ::tracing::$level!($($field = %$value,)* $what)
    };
}

/// Emits nothing and evaluates nothing.
#[cfg(not(feature = "tracing"))]
macro_rules! event {
    ($level:ident, $what:literal $(, $field:ident = $value:expr)* $(,)?) => {
        if false {
            let _ = ($(&$value,)*);
        }
    };
}

pub(crate) use event;
