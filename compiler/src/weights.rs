//! Where a module's weights come from: checkpoints, seeds, or the caller's memory.

use crate::checkpoint::Index;
use crate::experts;
use half::{bf16, f16};
use memmap2::Mmap;
use mlxc_ir::graph::TensorType;
use mlxc_ir::{DType, Diagnostic, Location};
use safetensors::SafeTensors;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Gives weights by name, one at a time.
pub trait Weights {
    /// Row-major little-endian elements of the dtype asked for.
    ///
    /// # Errors
    /// `MLXC0921` a weight that is not there, `MLXC0922` one of another shape or past memory, `MLXC0923` a damaged file.
    fn read(&self, name: &str, ty: &TensorType) -> Result<Cow<'_, [u8]>, Diagnostic>;
}

impl Weights for Box<dyn Weights> {
    fn read(&self, name: &str, ty: &TensorType) -> Result<Cow<'_, [u8]>, Diagnostic> {
        (**self).read(name, ty)
    }
}

/// No weights: for functions without any.
pub struct NoWeights;

impl Weights for NoWeights {
    fn read(&self, name: &str, _: &TensorType) -> Result<Cow<'_, [u8]>, Diagnostic> {
        Err(Diagnostic::new(921, format!("weight `{name}` has no value")).note("the compile call was given no weights"))
    }
}

/// Weights in the caller's memory, already in the module's dtype.
impl Weights for BTreeMap<String, Vec<u8>> {
    fn read(&self, name: &str, ty: &TensorType) -> Result<Cow<'_, [u8]>, Diagnostic> {
        let bytes = self.get(name).ok_or_else(|| Diagnostic::new(921, format!("weight `{name}` has no value")))?;
        let want = ty.max_bytes(&[]);
        if bytes.len() as u64 != want {
            return Err(Diagnostic::new(922, format!("weight `{name}` has another size"))
                .expected(format!("{want} bytes for {}", ty.display(&[])))
                .found(format!("{} bytes", bytes.len())));
        }
        Ok(Cow::Borrowed(bytes))
    }
}

/// Random weights from a seed: uniform with the spread of a freshly initialised model, norms near 1. The same name and
/// seed give the same bytes.
pub struct RandomWeights {
    /// The seed.
    pub seed: u64,
}

impl Weights for RandomWeights {
    fn read(&self, name: &str, ty: &TensorType) -> Result<Cow<'_, [u8]>, Diagnostic> {
        let mut state = name.bytes().fold(self.seed ^ 0x9e37_79b9_7f4a_7c15, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
        });
        let shape = ty.const_shape().unwrap_or_default();
        let n = ty.max_bytes(&[]) as usize / ty.dtype.bytes() as usize;
        let mut out = Vec::new();
        out.try_reserve_exact(n * ty.dtype.bytes() as usize).map_err(|e| {
            Diagnostic::new(922, format!("weight `{name}` is too large to be made"))
                .expected("a weight that fits memory")
                .found(format!("{}: {e}", ty.display(&[])))
        })?;
        let fan = shape.last().copied().unwrap_or(1).max(1) as f32;
        let (centre, spread) = if shape.len() == 1 { (1.0, 0.1) } else { (0.0, (3.0 / fan).sqrt()) };
        let mut next = || {
            // splitmix64 (Steele, Lea and Flood, 2014).
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            centre + spread * ((z >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
        };
        for _ in 0..n {
            push(&mut out, ty.dtype, next());
        }
        Ok(Cow::Owned(out))
    }
}

fn push(out: &mut Vec<u8>, dtype: DType, x: f32) {
    match dtype {
        DType::F16 => out.extend(f16::from_f32(x).to_le_bytes()),
        DType::BF16 => out.extend(bf16::from_f32(x).to_le_bytes()),
        DType::F64 => out.extend(f64::from(x).to_le_bytes()),
        DType::F32 => out.extend(x.to_le_bytes()),
        d => out.extend(&(x as i64).to_le_bytes()[..d.bytes() as usize]),
    }
}

/// The safetensors files of a Hugging Face folder.
pub struct Checkpoint {
    files: Vec<(PathBuf, Mmap)>,
    /// File of each tensor.
    places: BTreeMap<String, usize>,
    /// The file that says which tensors there are.
    origin: PathBuf,
}

impl Checkpoint {
    /// True if a folder holds a checkpoint of the form this reads, or a part of one.
    pub fn is_in(folder: &Path) -> bool {
        ["model.safetensors.index.json", "model.safetensors"].iter().any(|name| folder.join(name).exists())
    }

    /// Maps `model.safetensors`, or the files that `model.safetensors.index.json` lists.
    ///
    /// # Errors
    /// `MLXC0920` a missing file, `MLXC0923` a damaged one.
    pub fn open(folder: &Path) -> Result<Self, Diagnostic> {
        let index = Index::read(folder)?;
        let mut out = Checkpoint { files: Vec::new(), places: BTreeMap::new(), origin: index.origin.clone() };
        for name in index.files() {
            let path = folder.join(name);
            let file = File::open(&path).map_err(|e| unreadable(&path, &e))?;
            // SAFETY: the mapping is only read; a file that another process truncates meanwhile ends this one, as with
            // every mapped input.
            let map = unsafe { Mmap::map(&file) }.map_err(|e| unreadable(&path, &e))?;
            let tensors = SafeTensors::deserialize(&map).map_err(|e| damaged(&path, e.to_string()))?;
            index.check(name, &tensors.names())?;
            for tensor in tensors.names().into_iter().filter(|t| index.holds(name, t)) {
                out.places.insert(tensor.to_string(), out.files.len());
            }
            out.files.push((path, map));
        }
        Ok(out)
    }

    /// dtype of a tensor, if it is there and of a float dtype that is read.
    pub fn float_dtype(&self, name: &str) -> Option<DType> {
        let (_, map) = &self.files[*self.places.get(name)?];
        let dtype = SafeTensors::deserialize(map).ok()?.tensor(name).ok()?.dtype();
        match dtype {
            safetensors::Dtype::F32 => Some(DType::F32),
            safetensors::Dtype::BF16 => Some(DType::BF16),
            safetensors::Dtype::F16 => Some(DType::F16),
            _ => None,
        }
    }

    /// Names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// The tensors of which a stacked weight is made, and the type of each.
    fn parts(&self, name: &str, ty: &TensorType) -> Option<(TensorType, Vec<String>)> {
        let (experts, rest) = ty.shape.split_first()?;
        let one = TensorType { dtype: ty.dtype, shape: rest.to_vec() };
        Some((one, experts::parts(name, experts.as_const()?, |n| self.places.contains_key(n))?))
    }

    /// Names of the tensors a weight is read from.
    pub(crate) fn sources(&self, name: &str, ty: &TensorType) -> Vec<String> {
        match self.parts(name, ty) {
            Some((_, parts)) if !self.places.contains_key(name) => parts,
            _ => vec![name.to_string()],
        }
    }

    /// The file of a tensor.
    pub fn file_of(&self, tensor: &str) -> Option<&Path> {
        self.places.get(tensor).map(|i| self.files[*i].0.as_path())
    }
}

pub(crate) fn unreadable(path: &Path, e: &std::io::Error) -> Diagnostic {
    Diagnostic::new(920, "a file of the checkpoint cannot be read")
        .at(Location::new(path.display().to_string(), 0, 0))
        .found(e.to_string())
}

pub(crate) fn damaged(path: &Path, found: String) -> Diagnostic {
    Diagnostic::new(923, "a file of the checkpoint is damaged")
        .at(Location::new(path.display().to_string(), 0, 0))
        .found(found)
}

impl Weights for Checkpoint {
    fn read(&self, name: &str, ty: &TensorType) -> Result<Cow<'_, [u8]>, Diagnostic> {
        let Some(at) = self.places.get(name) else {
            if let Some((one, parts)) = self.parts(name, ty) {
                let read = |part: &String| self.read(part, &one).map(Cow::into_owned);
                return parts.iter().map(read).collect::<Result<Vec<_>, _>>().map(|p| Cow::Owned(p.concat()));
            }
            return Err(Diagnostic::new(921, format!("the checkpoint has no tensor `{name}`"))
                .at(Location::new(self.origin.display().to_string(), 0, 0))
                .expected(ty.display(&[]).to_string()));
        };
        let (path, map) = &self.files[*at];
        let tensors = SafeTensors::deserialize(map).map_err(|e| damaged(path, e.to_string()))?;
        let tensor = tensors.tensor(name).map_err(|e| damaged(path, e.to_string()))?;
        let place = Location::new(path.display().to_string(), 0, 0);
        let from = match tensor.dtype() {
            safetensors::Dtype::F32 if ty.dtype.is_float() => DType::F32,
            safetensors::Dtype::BF16 if ty.dtype.is_float() => DType::BF16,
            safetensors::Dtype::F16 if ty.dtype.is_float() => DType::F16,
            // Codes and scales of quantised weights are read as they are.
            safetensors::Dtype::U32 if ty.dtype == DType::U32 => DType::U32,
            safetensors::Dtype::U8 if ty.dtype == DType::U8 => DType::U8,
            other => {
                return Err(Diagnostic::new(922, format!("tensor `{name}` has a dtype that is not read"))
                    .at(place)
                    .expected(if ty.dtype.is_float() { "F32, F16 or BF16".to_string() } else { ty.dtype.to_string() })
                    .found(format!("{other:?}")));
            }
        };
        let want: Vec<usize> = ty.const_shape().unwrap_or_default().iter().map(|n| *n as usize).collect();
        if tensor.shape() != want.as_slice() {
            return Err(Diagnostic::new(922, format!("tensor `{name}` has another shape"))
                .at(place)
                .expected(format!("{want:?}"))
                .found(format!("{:?}", tensor.shape())));
        }
        // `data` borrows from the view, not from the map, in this crate's signature: find it in the map again.
        let data = tensor.data();
        let start = data.as_ptr() as usize - map.as_ptr() as usize;
        Ok(convert(&map[start..start + data.len()], from, ty.dtype))
    }
}

/// Elements in another float dtype, rounded to nearest even.
fn convert(data: &[u8], from: DType, to: DType) -> Cow<'_, [u8]> {
    if from == to {
        return Cow::Borrowed(data);
    }
    let mut out = Vec::with_capacity(data.len() / from.bytes() as usize * to.bytes() as usize);
    match from {
        DType::F32 => {
            data.chunks_exact(4).for_each(|c| push(&mut out, to, f32::from_le_bytes([c[0], c[1], c[2], c[3]])));
        }
        DType::BF16 => {
            data.chunks_exact(2).for_each(|c| push(&mut out, to, bf16::from_le_bytes([c[0], c[1]]).to_f32()));
        }
        _ => data.chunks_exact(2).for_each(|c| push(&mut out, to, f16::from_le_bytes([c[0], c[1]]).to_f32())),
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_weights_depend_on_name_and_seed_only() {
        let ty = TensorType::constant(DType::BF16, &[8, 16]);
        let r = |seed, name| RandomWeights { seed }.read(name, &ty).unwrap().into_owned();
        assert_eq!(r(1, "a"), r(1, "a"));
        assert_ne!(r(1, "a"), r(2, "a"));
        assert_ne!(r(1, "a"), r(1, "b"));
        assert_eq!(r(1, "a").len(), 256);
    }

    #[test]
    fn random_weights_past_memory_are_refused() {
        let ty = TensorType::constant(DType::F32, &[1 << 30, 1 << 30]);
        let e = RandomWeights { seed: 1 }.read("a", &ty).unwrap_err();
        assert_eq!(e.id, 922);
        assert!(e.to_string().contains("`a`"), "{e}");
    }

    #[test]
    fn a_missing_checkpoint_names_its_file() {
        let e = Checkpoint::open(Path::new("no/such/folder")).err().unwrap();
        assert_eq!(e.id, 920);
        assert!(e.at.unwrap().file.contains("model.safetensors"));
    }

    #[test]
    fn half_a_file_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("model.safetensors"), [9, 0, 0, 0, 0, 0, 0, 0, b'{']).unwrap();
        assert_eq!(Checkpoint::open(dir.path()).err().unwrap().id, 923);
        std::fs::write(dir.path().join("model.safetensors.index.json"), "{\"weight_map\": {\"a\": \"../x\"}}").unwrap();
        assert_eq!(Checkpoint::open(dir.path()).err().unwrap().id, 923);
    }
}
