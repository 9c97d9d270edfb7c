//! What the store holds, whether it is whole, and what of it nobody needs any more.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use rusqlite::{Connection, params};
use serde::Serialize;

use super::{CallKey, Store, StoreError, artifact::Artifact};
use crate::table::Digest;

/// How much of each sort the store holds; bytes are as they lie on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sizes {
    pub github_calls: u64,
    pub github_bytes: u64,
    pub model_calls: u64,
    pub model_bytes: u64,
    /// Answers of models that others took the place of.
    pub replaced_calls: u64,
    pub replaced_bytes: u64,
    pub memo_rows: u64,
    pub memo_bytes: u64,
    pub tables: u64,
    pub objects: u64,
    pub object_bytes: u64,
    pub runs: u64,
    pub database_bytes: u64,
}

/// What was found when everything was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    pub entries: u64,
    /// What was damaged, and is dropped.
    pub damaged: Vec<String>,
}

/// What may be collected: all that is not kept.
#[derive(Clone, Debug, Default)]
pub struct Gc {
    /// Tables and other objects that are needed, with all that they refer to.
    pub roots: HashSet<Digest>,
    /// Definitions of stages whose memo is needed.
    pub definitions: HashSet<Digest>,
    /// Only what is older than this.
    pub before: Option<SystemTime>,
    /// Only tell.
    pub dry_run: bool,
}

/// What was collected, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    pub memo_rows: u64,
    pub tables: u64,
    pub github_calls: u64,
    pub objects: u64,
    pub object_bytes: u64,
}

/// Whether an answer costs nothing to ask for again. The others were paid for.
const FREE: &str = "(method = 'GET' OR url LIKE '%/graphql')";

impl Store {
    pub fn sizes(&self) -> Result<Sizes, StoreError> {
        let mut sizes = self.read(|connection| {
            let two = |sql: &str| {
                connection.query_row(sql, [], |row| Ok((row.get::<_, u64>(0)?, row.get(1)?)))
            };
            let bytes = "count(*), coalesce(sum(length(request) + length(body)), 0) FROM calls";
            let (github_calls, github_bytes) = two(&format!("SELECT {bytes} WHERE {FREE}"))?;
            let (model_calls, model_bytes) = two(&format!("SELECT {bytes} WHERE NOT {FREE}"))?;
            let (replaced_calls, replaced_bytes) =
                two("SELECT count(*), coalesce(sum(length(body)), 0) FROM replaced")?;
            let (memo_rows, memo_bytes) =
                two("SELECT count(*), coalesce(sum(length(rows)), 0) FROM memo")?;
            let (tables, runs) =
                two("SELECT (SELECT count(*) FROM fingerprints), (SELECT count(*) FROM runs)")?;
            let pages: u64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
            let page: u64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
            let database_bytes = pages * page;
            Ok(Sizes {
                github_calls,
                github_bytes,
                model_calls,
                model_bytes,
                replaced_calls,
                replaced_bytes,
                memo_rows,
                memo_bytes,
                tables,
                runs,
                database_bytes,
                ..Sizes::default()
            })
        })?;
        self.each_object(|_, metadata, _| {
            sizes.objects += 1;
            sizes.object_bytes += metadata.len();
            Ok(())
        })?;
        Ok(sizes)
    }

    /// Reads everything and holds it against its digest. What is damaged is dropped, so that it is
    /// made or asked for again.
    pub async fn verify(&self) -> Result<Verified, StoreError> {
        let mut verified = Verified::default();
        let mut calls = Vec::new();
        for key in self.keys("calls")? {
            verified.entries += 1;
            if self.call(CallKey(key))?.is_none() {
                verified.damaged.push(format!("the answer to call {}", key.short()));
                calls.push(key);
            }
        }
        let mut memo = Vec::new();
        for key in self.keys("memo")? {
            verified.entries += 1;
            if !self.read(|connection| whole_memo(connection, key))? {
                verified.damaged.push(format!("the memo of a row, {}", key.short()));
                memo.push(key);
            }
        }
        let mut objects: Vec<(Digest, PathBuf)> = Vec::new();
        self.each_object(|digest, _, path| {
            verified.entries += 1;
            let bytes = fs::read(&path)?;
            let list = crate::table::Hasher::new("artifact").part(&bytes).finish() == digest;
            let lines = || zstd::decode_all(&bytes[..]).is_ok_and(|it| Digest::of(&it) == digest);
            if !list && Digest::of(&bytes) != digest && !lines() {
                verified.damaged.push(format!("the object {}", digest.short()));
                objects.push((digest, path));
            }
            Ok(())
        })?;
        for (_, path) in &objects {
            fs::remove_file(path)?;
        }
        let damaged: HashSet<Digest> = objects.into_iter().map(|(digest, _)| digest).collect();
        // A table that lacks one of its parts stands for nothing.
        for artifact in self.tables()? {
            let parts = self.artifact(artifact)?.map(|list| parts(&list));
            if parts.is_none_or(|parts| parts.iter().any(|part| damaged.contains(part))) {
                self.forget(artifact).await?;
            }
        }
        self.commit(move |transaction| {
            for key in calls {
                transaction.execute("DELETE FROM calls WHERE key = ?1", [&key.0[..]])?;
            }
            for key in memo {
                transaction.execute("DELETE FROM memo WHERE key = ?1", [&key.0[..]])?;
            }
            Ok(())
        })
        .await?;
        Ok(verified)
    }

    /// Forgets what stages of these definitions made: rows and tables; with `calls` also the answers
    /// that they stand on. Returns how many rows, tables and calls.
    pub async fn clear(
        &self,
        definitions: HashSet<Digest>,
        calls: bool,
    ) -> Result<(u64, u64, u64), StoreError> {
        let (tell, told) = std::sync::mpsc::channel();
        self.commit(move |transaction| {
            let mut cleared = (0, 0, 0);
            for definition in &definitions {
                if calls {
                    let mut memo =
                        transaction.prepare("SELECT calls FROM memo WHERE definition = ?1")?;
                    let mut rows = memo.query([&definition.0[..]])?;
                    while let Some(row) = rows.next()? {
                        for key in row.get_ref(0)?.as_blob()?.chunks(32) {
                            cleared.2 += transaction
                                .prepare_cached("DELETE FROM calls WHERE key = ?1")?
                                .execute([key])? as u64;
                        }
                    }
                }
                let delete = |table: &str| {
                    let sql = format!("DELETE FROM {table} WHERE definition = ?1");
                    transaction.execute(&sql, [&definition.0[..]])
                };
                cleared.0 += delete("memo")? as u64;
                cleared.1 += delete("fingerprints")? as u64;
            }
            // It is waited for, below.
            let _ = tell.send(cleared);
            Ok(())
        })
        .await?;
        told.recv().map_err(|_| io::Error::other("the store's thread has ended").into())
    }

    /// Collects what `gc` does not keep. Answers of models are paid for and never collected.
    pub async fn collect(&self, gc: Gc) -> Result<Collected, StoreError> {
        let (tell, told) = std::sync::mpsc::channel();
        let sweep = gc.clone();
        let swept = self
            .commit(move |transaction| {
                let collected = sweep_rows(transaction, &sweep)?;
                let kept = kept_artifacts(transaction)?;
                // It is waited for, below.
                let _ = tell.send((collected, kept));
                match sweep.dry_run {
                    true => Err(rusqlite::Error::ExecuteReturnedResults),
                    false => Ok(()),
                }
            })
            .await;
        let (mut collected, kept) = match (told.try_recv(), swept) {
            (Ok(found), _) if gc.dry_run => found,
            (Ok(found), Ok(())) => found,
            (_, Err(error)) => return Err(error),
            (Err(_), Ok(())) => return Err(io::Error::other("nothing was told").into()),
        };
        let mut live: HashSet<Digest> = HashSet::new();
        for root in gc.roots.iter().chain(&kept) {
            live.insert(*root);
            if let Ok(Some(artifact)) = self.artifact(*root) {
                live.extend(parts(&artifact));
            }
        }
        self.each_object(|digest, metadata, path| {
            let old = match gc.before {
                None => true,
                Some(before) => metadata.modified()? < before,
            };
            if old && !live.contains(&digest) {
                collected.objects += 1;
                collected.object_bytes += metadata.len();
                if !gc.dry_run {
                    fs::remove_file(path)?;
                }
            }
            Ok(())
        })?;
        Ok(collected)
    }

    fn keys(&self, table: &str) -> Result<Vec<Digest>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare(&format!("SELECT key FROM {table}"))?;
            let keys = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
            keys.map(|key| Ok(Digest::from_slice(&key?))).filter_map(Result::transpose).collect()
        })
    }

    /// Every table that a fingerprint stands for.
    fn tables(&self) -> Result<HashSet<Digest>, StoreError> {
        self.read(kept_artifacts)
    }

    fn each_object(
        &self,
        mut each: impl FnMut(Digest, fs::Metadata, PathBuf) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let folders = match fs::read_dir(self.objects()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            folders => folders?,
        };
        for folder in folders {
            let folder = folder?;
            if !folder.file_type()?.is_dir() {
                continue;
            }
            for file in fs::read_dir(folder.path())? {
                let file = file?;
                let name = [folder.file_name(), file.file_name()]
                    .map(|name| name.to_string_lossy().into_owned());
                // What a killed run left half written has another name; it is of no use.
                match name.concat().parse() {
                    Ok(digest) => each(digest, file.metadata()?, file.path())?,
                    Err(_) if self.inner.writer.is_some() => fs::remove_file(file.path())?,
                    Err(_) => {}
                }
            }
        }
        Ok(())
    }
}

fn parts(artifact: &Artifact) -> Vec<Digest> {
    artifact.chunks.iter().filter_map(|chunk| chunk.digest().parse().ok()).collect()
}

fn whole_memo(connection: &Connection, key: Digest) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT rows, digest FROM memo WHERE key = ?1")?.query_row(
        [&key.0[..]],
        |row| {
            let (rows, digest) = (row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?);
            Ok(Digest::of(rows).0[..] == *digest)
        },
    )
}

fn kept_artifacts(connection: &Connection) -> rusqlite::Result<HashSet<Digest>> {
    let mut statement = connection.prepare(
        "SELECT artifact FROM fingerprints UNION SELECT failed FROM fingerprints
         WHERE failed IS NOT NULL UNION SELECT rows FROM memo WHERE stored",
    )?;
    let digests = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
    digests.map(|digest| Ok(Digest::from_slice(&digest?))).filter_map(Result::transpose).collect()
}

fn sweep_rows(connection: &Connection, gc: &Gc) -> rusqlite::Result<Collected> {
    let before = match gc.before {
        None => i64::MAX,
        Some(before) => before
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as i64),
    };
    connection.execute_batch(
        "CREATE TEMP TABLE IF NOT EXISTS roots (digest BLOB PRIMARY KEY);
         CREATE TEMP TABLE IF NOT EXISTS definitions (digest BLOB PRIMARY KEY);
         CREATE TEMP TABLE IF NOT EXISTS stood_on (digest BLOB PRIMARY KEY);
         DELETE FROM roots; DELETE FROM definitions; DELETE FROM stood_on;",
    )?;
    for (table, digests) in [("roots", &gc.roots), ("definitions", &gc.definitions)] {
        let mut insert = connection.prepare(&format!("INSERT INTO temp.{table} VALUES (?1)"))?;
        for digest in digests {
            insert.execute([&digest.0[..]])?;
        }
    }
    // The age of what a run made is the age of the run.
    let old_run = "run NOT IN (SELECT id FROM runs WHERE unixepoch(at) * 1000 >= ?1)";
    let memo_rows = connection.execute(
        &format!(
            "DELETE FROM memo
             WHERE definition NOT IN (SELECT digest FROM temp.definitions) AND {old_run}"
        ),
        [before],
    )?;
    let tables = connection.execute(
        &format!(
            "DELETE FROM fingerprints
             WHERE artifact NOT IN (SELECT digest FROM temp.roots) AND {old_run}"
        ),
        [before],
    )?;
    {
        let mut insert = connection.prepare("INSERT OR IGNORE INTO temp.stood_on VALUES (?1)")?;
        let mut memo = connection.prepare("SELECT calls FROM memo")?;
        let mut rows = memo.query([])?;
        while let Some(row) = rows.next()? {
            for key in row.get_ref(0)?.as_blob()?.chunks(32) {
                insert.execute(params![key])?;
            }
        }
    }
    let github_calls = connection.execute(
        &format!(
            "DELETE FROM calls WHERE {FREE} AND key NOT IN (SELECT digest FROM temp.stood_on)
             AND max(checked, unixepoch(at) * 1000) < ?1"
        ),
        [before],
    )?;
    Ok(Collected {
        memo_rows: memo_rows as u64,
        tables: tables as u64,
        github_calls: github_calls as u64,
        ..Collected::default()
    })
}
