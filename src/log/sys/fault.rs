//! The points where a test makes calls to the operating system fail, or inspects the files.

/// A test's hook for calls to the operating system. It does nothing, fails the call, or looks at the files as a crash would leave them.
#[cfg(test)]
pub(crate) type Hook = Box<dyn FnMut(&'static str, &std::path::Path) -> std::io::Result<()>>;

#[cfg(test)]
thread_local! {
    static HOOK: std::cell::RefCell<Option<Hook>> = const { std::cell::RefCell::new(None) };
}

/// Routes this thread's calls through a hook from now on, or through none.
#[cfg(test)]
pub(crate) fn set_hook(hook: Option<Hook>) {
    HOOK.with(|place| *place.borrow_mut() = hook);
}

/// Runs the hook. It precedes each call that changes something or that a disk can fail.
#[cfg(test)]
pub(crate) fn point(action: &'static str, path: &std::path::Path) -> std::io::Result<()> {
    HOOK.with(|place| place.borrow_mut().as_mut().map_or(Ok(()), |hook| hook(action, path)))
}

/// Does nothing outside of tests.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn point(_action: &'static str, _path: &std::path::Path) -> std::io::Result<()> {
    Ok(())
}
