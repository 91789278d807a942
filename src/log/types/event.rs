//! Events for whoever watches a program, by way of the crate `tracing`; nothing at all without the cargo feature of that name.

/// Tells an event: its level as `tracing` names it, what happened, and fields that can be displayed.
#[cfg(feature = "tracing")]
macro_rules! event {
    ($level:ident, $what:literal $(, $field:ident = $value:expr)* $(,)?) => {
        ::tracing::$level!($($field = %$value,)* $what)
    };
}

/// Tells nothing, and looks at nothing.
#[cfg(not(feature = "tracing"))]
macro_rules! event {
    ($level:ident, $what:literal $(, $field:ident = $value:expr)* $(,)?) => {
        if false {
            let _ = ($(&$value,)*);
        }
    };
}

pub(crate) use event;
