//! Which device runs a model.

use crate::RuntimeError;
use std::fmt;
use std::str::FromStr;

/// What runs the launches.
///
/// ```
/// use mlxc_runtime::Device;
///
/// assert_eq!("gpu:1".parse::<Device>()?, Device::Gpu(Some(1)));
/// assert_eq!("tpu".parse::<Device>().unwrap_err().id(), "MLXC0716");
/// # Ok::<(), mlxc_runtime::RuntimeError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Device {
    /// A GPU that is not emulated, if there is one and the package has code for it; else this machine's CPU.
    Auto,
    /// This machine's CPU.
    #[default]
    Cpu,
    /// The GPU of that number among `gpu::adapters`, or the best one the package has code for.
    Gpu(Option<u32>),
    /// Nothing: inputs are checked and outputs are zeros of the right shape. Needs no code for this machine.
    Null,
}

impl FromStr for Device {
    type Err = RuntimeError;

    /// Reads `auto`, `cpu`, `gpu` or `gpu:N`.
    ///
    /// # Errors
    /// 0716 for anything else.
    fn from_str(text: &str) -> Result<Self, RuntimeError> {
        match text {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            "gpu" => Ok(Device::Gpu(None)),
            _ => {
                let number = text.strip_prefix("gpu:").filter(|n| n.bytes().all(|b| b.is_ascii_digit()));
                let number = number.and_then(|n| n.parse().ok());
                number.map(|n| Device::Gpu(Some(n))).ok_or_else(|| RuntimeError::DeviceName { found: text.into() })
            }
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Gpu(None) => f.write_str("gpu"),
            Device::Gpu(Some(n)) => write!(f, "gpu:{n}"),
            Device::Null => f.write_str("null"),
        }
    }
}
