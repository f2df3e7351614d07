//! The process that kernels run in: one that crashes takes nothing with it.

use std::io::{BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

use crate::{Failure, Library};

/// In which order threads and threadgroups run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By their numbers.
    Forward,
    /// From the last one on.
    Reverse,
    /// As this seed has it.
    Random(u32),
}

impl Order {
    /// One of each kind.
    pub const ALL: [Order; 3] = [Order::Forward, Order::Reverse, Order::Random(7)];

    fn number(self) -> u32 {
        match self {
            Order::Forward => 0,
            Order::Reverse => 1,
            Order::Random(seed) => seed.saturating_add(2),
        }
    }
}

/// Memory in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block(u32);

/// What a kernel is given for a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The `[[buffer(n)]]`.
    pub index: u32,
    /// The memory.
    pub block: Block,
    /// Bytes before it.
    pub offset: u64,
    /// Bytes of it.
    pub bytes: u64,
}

/// One launch.
#[derive(Clone, Debug)]
pub struct Launch<'a> {
    /// The kernel's entry point.
    pub entry: &'a str,
    /// Threadgroups along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a threadgroup.
    pub lanes: u32,
    /// Order of threads.
    pub order: Order,
    /// Its buffers; more than it has are fine.
    pub bindings: &'a [Binding],
}

/// A process that runs the kernels of a library.
#[derive(Debug)]
pub struct Machine {
    library: Library,
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    said: Option<JoinHandle<String>>,
}

impl Machine {
    pub(crate) fn new(library: &Library) -> Result<Self, Failure> {
        let mut child = Command::new(&library.runner)
            .env("ASAN_OPTIONS", "detect_leaks=0:detect_stack_use_after_return=0:abort_on_error=0")
            .env("UBSAN_OPTIONS", "print_stacktrace=0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (Some(to), Some(from), Some(mut errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Failure::Tool("a process without pipes".into()));
        };
        let said = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was said before a broken pipe is all there is.
            let _ = errors.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Ok(Machine { library: library.clone(), child, to, from: BufReader::new(from), said: Some(said) })
    }

    /// Memory of so many bytes, all zero.
    ///
    /// # Errors
    /// Where the process has ended.
    pub fn allocate(&mut self, bytes: u64) -> Result<Block, Failure> {
        let mut command = 1u32.to_le_bytes().to_vec();
        command.extend(bytes.to_le_bytes());
        self.send(&command)?;
        self.number().map(Block)
    }

    /// Writes into memory.
    ///
    /// # Errors
    /// Where the process has ended.
    pub fn write(&mut self, block: Block, offset: u64, data: &[u8]) -> Result<(), Failure> {
        let mut command = 2u32.to_le_bytes().to_vec();
        command.extend(block.0.to_le_bytes());
        command.extend(offset.to_le_bytes());
        command.extend((data.len() as u64).to_le_bytes());
        self.send(&command)?;
        self.send(data)
    }

    /// Reads from memory.
    ///
    /// # Errors
    /// Where the process has ended.
    pub fn read(&mut self, block: Block, offset: u64, bytes: u64) -> Result<Vec<u8>, Failure> {
        let mut command = 3u32.to_le_bytes().to_vec();
        command.extend(block.0.to_le_bytes());
        command.extend(offset.to_le_bytes());
        command.extend(bytes.to_le_bytes());
        self.send(&command)?;
        let mut out = vec![0; bytes as usize];
        self.receive(&mut out)?;
        Ok(out)
    }

    /// Gives memory back.
    ///
    /// # Errors
    /// Where the process has ended.
    pub fn free(&mut self, block: Block) -> Result<(), Failure> {
        let mut command = 5u32.to_le_bytes().to_vec();
        command.extend(block.0.to_le_bytes());
        self.send(&command)
    }

    /// Runs a kernel.
    ///
    /// # Errors
    /// [`Failure::Launch`] if the kernel is not known or a buffer is missing, [`Failure::Run`] for what it does wrong.
    pub fn launch(&mut self, launch: &Launch<'_>) -> Result<(), Failure> {
        let kernel = self.library.kernel(launch.entry)?.clone();
        let mut bindings = Vec::new();
        for index in &kernel.buffers {
            let missing = || Failure::Launch(format!("{}: nothing is bound to buffer {index}", launch.entry));
            bindings.push(launch.bindings.iter().find(|b| b.index == *index).ok_or_else(missing)?);
        }
        let mut command = 4u32.to_le_bytes().to_vec();
        for text in [kernel.file.to_string_lossy().as_ref(), &kernel.symbol] {
            command.extend((text.len() as u32).to_le_bytes());
            command.extend(text.as_bytes());
        }
        let order = launch.order.number();
        for n in launch.grid.into_iter().chain([launch.lanes, order, bindings.len() as u32]) {
            command.extend(n.to_le_bytes());
        }
        for b in bindings {
            command.extend(b.index.to_le_bytes());
            command.extend(b.block.0.to_le_bytes());
            command.extend(b.offset.to_le_bytes());
            command.extend(b.bytes.to_le_bytes());
        }
        let wrong = |what: String| Failure::Run { kernel: launch.entry.to_string(), what };
        let answered = self.send(&command).and_then(|()| {
            let mut text = vec![0; self.number()? as usize];
            self.receive(&mut text)?;
            Ok(text)
        });
        match answered {
            Ok(text) if text.is_empty() => Ok(()),
            Ok(text) => Err(wrong(String::from_utf8_lossy(&text).into_owned())),
            Err(Failure::Run { what, .. }) => Err(wrong(what)),
            Err(other) => Err(other),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.to.write_all(bytes).and_then(|()| self.to.flush()).map_err(|_| self.ended())
    }

    fn receive(&mut self, bytes: &mut [u8]) -> Result<(), Failure> {
        self.from.read_exact(bytes).map_err(|_| self.ended())
    }

    fn number(&mut self) -> Result<u32, Failure> {
        let mut bytes = [0; 4];
        self.receive(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// What the process said before it ended.
    fn ended(&mut self) -> Failure {
        let status = self.child.wait().map(|s| s.to_string()).unwrap_or_default();
        let said = self.said.take().and_then(|s| s.join().ok()).unwrap_or_default();
        let told: Vec<&str> =
            said.lines().filter(|l| l.contains("ERROR") || l.contains("error:") || l.contains(".metal:")).collect();
        let told = if told.is_empty() { said.trim().to_string() } else { told.join("\n") };
        Failure::Run { kernel: String::new(), what: format!("the process ended, {status}: {told}") }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
