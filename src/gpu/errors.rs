//! Errors of the device as values: scopes around calls, a sticky flag for a lost device.

use crate::error::{Error, Result};
use std::sync::{Arc, OnceLock};

/// Why the device was lost, once it is.
#[derive(Clone, Default)]
pub(super) struct Faults {
    lost: Arc<OnceLock<String>>,
}

impl Faults {
    /// Listens to `device`.
    pub fn watch(device: &wgpu::Device) -> Self {
        let faults = Self::default();
        let lost = faults.lost.clone();
        device.set_device_lost_callback(move |reason, message| {
            let _ = lost.set(format!("{reason:?}: {message}"));
        });
        faults
    }

    /// Keeps errors that no scope caught away from wgpu's default handler, which panics. Scopes are per thread, so such an
    /// error is not of a call that [`Faults::guard`] watches.
    pub fn log_uncaught(device: &wgpu::Device) {
        device.on_uncaptured_error(Arc::new(|error| log::error!("uncaught device error: {error}")));
    }

    /// The sticky error of a lost device.
    pub fn check(&self) -> Result<()> {
        match self.lost.get() {
            Some(reason) => Err(Error::DeviceLost(reason.clone())),
            None => Ok(()),
        }
    }

    /// Runs `call`, turning device errors into values. `bytes` is what it allocates, for the message.
    pub fn guard<T>(
        &self,
        device: &wgpu::Device,
        doing: impl Fn() -> String,
        bytes: u64,
        call: impl FnOnce() -> T,
    ) -> Result<T> {
        self.check()?;
        let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let value = call();
        let memory = pollster::block_on(memory.pop());
        let internal = pollster::block_on(internal.pop());
        let validation = pollster::block_on(validation.pop());
        if memory.is_some() || internal.is_some() || validation.is_some() {
            // A lost device makes other calls fail in odd ways: hear of the loss, and say that.
            // It is reported when the work before it has ended.
            let timeout = Some(std::time::Duration::from_secs(1));
            let _ = device.poll(wgpu::PollType::Wait { submission_index: None, timeout });
            self.check()?;
        }
        if memory.is_some() {
            return Err(Error::OutOfMemory { doing: doing(), bytes });
        }
        match internal.or(validation) {
            Some(error) => Err(Error::Gpu { doing: doing(), message: error.to_string() }),
            None => Ok(value),
        }
    }
}
