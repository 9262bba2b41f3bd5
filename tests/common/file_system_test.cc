#include "common/file_system.h"

#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <string>
#include <vector>

#include "tests/fakes/fake_file_system.h"

namespace tidegate {
namespace {

std::string NewFolder() {
  const char* base = std::getenv("TEST_TMPDIR");
  std::string path = std::string(base != nullptr ? base : "/tmp") + "/filesXXXXXX";
  REQUIRE(mkdtemp(path.data()) != nullptr);
  return path;
}

}  // namespace

// The fake keeps the same contract as the machine's, so that tests with it say something.
TEST_CASE("files appear whole and by commit only, on both file systems") {
  FakeFileSystem fake;
  const std::string folder = NewFolder();
  for (FileSystem* files : {&RealFileSystem(), static_cast<FileSystem*>(&fake)}) {
    const std::string path = JoinPath(folder, "a.txt");
    CHECK(absl::IsNotFound(files->Read(path, 100).status()));
    CHECK(absl::IsNotFound(files->Size(path).status()));
    {
      auto file = files->Create(path);
      REQUIRE(file.ok());
      REQUIRE((*file)->Append("abc").ok());
      CHECK(absl::IsNotFound(files->Read(path, 100).status()));
    }  // given up
    CHECK(files->List(folder)->empty());
    REQUIRE(files->WriteAtomically(path, "one").ok());
    {
      auto file = files->Create(path);
      REQUIRE(file.ok());
      REQUIRE((*file)->Append("tw").ok());
      REQUIRE((*file)->Append("o!").ok());
      CHECK(*files->Read(path, 100) == "one");
      REQUIRE((*file)->Commit().ok());
    }
    CHECK(*files->Read(path, 4) == "two!");
    CHECK(*files->Size(path) == 4);
    CHECK(absl::IsResourceExhausted(files->Read(path, 3).status()));
    REQUIRE(files->WriteAtomically(JoinPath(folder, "b.gz"), "").ok());
    CHECK(*files->List(folder) == std::vector<std::string>{"a.txt", "b.gz"});
    CHECK(*files->Glob(folder + "/*.gz") == std::vector<std::string>{folder + "/b.gz"});
    CHECK(files->Glob(folder + "/*.zst")->empty());
    CHECK(files->Glob(folder + "/none/*.gz")->empty());
    CHECK(files->Remove(path).ok());
    CHECK(files->Remove(path).ok());
    CHECK(absl::IsNotFound(files->Read(path, 100).status()));
    CHECK(files->Remove(JoinPath(folder, "b.gz")).ok());
  }
}

TEST_CASE("errors name the path") {
  const std::string missing = NewFolder() + "/no/such/file";
  for (const absl::Status& status :
       {RealFileSystem().Read(missing, 1).status(), RealFileSystem().WriteAtomically(missing, "x"),
        RealFileSystem().List(missing).status()}) {
    CHECK(!status.ok());
    CHECK(std::string(status.message()).find(missing) != std::string::npos);
  }
}

TEST_CASE("folders are made with their parents, and a file in the way is an error") {
  const std::string folder = NewFolder();
  CHECK(RealFileSystem().CreateDirectories(folder + "/x/y/z").ok());
  CHECK(RealFileSystem().CreateDirectories(folder + "/x/y/z").ok());
  CHECK(RealFileSystem().WriteAtomically(folder + "/x/y/z/f", "1").ok());
  CHECK(!RealFileSystem().CreateDirectories(folder + "/x/y/z/f").ok());
  CHECK(!RealFileSystem().CreateDirectories(folder + "/x/y/z/f/g").ok());
}

TEST_CASE("a folder is locked by one holder at a time, who is named") {
  const std::string folder = NewFolder() + "/state";
  auto first = RealFileSystem().LockDirectory(folder);
  REQUIRE(first.ok());
  auto second = RealFileSystem().LockDirectory(folder);
  REQUIRE(absl::IsFailedPrecondition(second.status()));
  const std::string message(second.status().message());
  CHECK(message.find(folder) != std::string::npos);
  CHECK(message.find(std::to_string(getpid())) != std::string::npos);
  first->reset();
  CHECK(RealFileSystem().LockDirectory(folder).ok());
}

TEST_CASE("what cannot be written is noticed before it is written, and a check leaves nothing") {
  const std::string folder = NewFolder();
  FileSystem& files = RealFileSystem();
  CHECK(files.CheckWritableFile(folder + "/summary.json").ok());
  CHECK(files.CheckWritableFolder(folder + "/deep/run").ok());
  REQUIRE(files.WriteAtomically(folder + "/kept", "as it was").ok());
  CHECK(files.CheckWritableFile(folder + "/kept").ok());
  CHECK(*files.Read(folder + "/kept", 100) == "as it was");
  CHECK(*files.List(folder) == std::vector<std::string>{"deep", "kept"});
  CHECK(files.List(folder + "/deep/run")->empty());
  for (const absl::Status& status :
       {files.CheckWritableFile(folder), files.CheckWritableFile(folder + "/kept/x"), files.CheckWritableFile(folder + "/no/x"),
        files.CheckWritableFile("/dev/null"), files.CheckWritableFolder(folder + "/kept"), files.CheckWritableFolder("/proc/x")}) {
    CHECK(!status.ok());
    CHECK(status.message().size() > 10);
  }
}

TEST_CASE("a holder that died holds no lock") {
  const std::string folder = NewFolder();
  const pid_t child = fork();
  if (child == 0) {
    auto lock = RealFileSystem().LockDirectory(folder);
    _exit(lock.ok() ? 0 : 1);  // no destructor
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(status == 0);
  CHECK(RealFileSystem().LockDirectory(folder).ok());
}

}  // namespace tidegate
