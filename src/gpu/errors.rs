//! Errors of the device as values: scopes around calls, a sticky flag for a lost device.

use crate::error::{Error, Result};
use std::sync::{Arc, OnceLock};

/// Why the device was lost, once it is; and the first error that no scope caught.
#[derive(Clone, Default)]
pub(super) struct Faults {
    lost: Arc<OnceLock<String>>,
    stray: Arc<OnceLock<String>>,
}

impl Faults {
    /// Listens to `device`.
    pub fn watch(device: &wgpu::Device) -> Self {
        let faults = Self::default();
        let (lost, stray) = (faults.lost.clone(), faults.stray.clone());
        device.set_device_lost_callback(move |reason, message| {
            let _ = lost.set(format!("{reason:?}: {message}"));
        });
        // Scopes are per thread: an error raised elsewhere must not reach wgpu's default handler, which panics.
        device.on_uncaptured_error(Arc::new(move |error| {
            log::error!("uncaught device error: {error}");
            let _ = stray.set(error.to_string());
        }));
        faults
    }

    /// The sticky error of a lost or broken device.
    pub fn check(&self) -> Result<()> {
        if let Some(reason) = self.lost.get() {
            return Err(Error::DeviceLost(reason.clone()));
        }
        match self.stray.get() {
            Some(message) => Err(Error::Gpu { doing: "an earlier call".into(), message: message.clone() }),
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
        // A lost device makes other calls fail in odd ways: say the loss.
        self.check()?;
        if memory.is_some() {
            return Err(Error::OutOfMemory { doing: doing(), bytes });
        }
        match internal.or(validation) {
            Some(error) => Err(Error::Gpu { doing: doing(), message: error.to_string() }),
            None => Ok(value),
        }
    }
}
