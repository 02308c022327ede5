//! Places in a call where tests let something go wrong that no test device does by itself.

/// Where a call is.
#[doc(hidden)]
#[derive(Debug)]
#[non_exhaustive]
pub enum Point<'a> {
    /// About to compile this text.
    Compiling(&'a mut String),
    /// Within a call of wgpu whose errors are caught.
    Calling,
    /// About to submit commands.
    Submitting,
    /// About to map the buffer of a result, its commands submitted.
    Mapping(&'a wgpu::Buffer),
    /// About to wait for the device.
    Waiting,
    /// Within the call of wgpu that waits.
    Polling,
    /// The result is mapped.
    Reading,
}

/// What a test does there.
#[doc(hidden)]
pub type Hook = Box<dyn Fn(Point<'_>) + Send + Sync>;
