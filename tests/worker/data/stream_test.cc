// Endless sources: named pipes, read once and in order.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <string>
#include <thread>

#include "tests/worker/data/decoder_fixture.h"
#include "tests/worker/data/test_files.h"
#include "worker/data/prefetch.h"
#include "worker/data/readers.h"

namespace tidegate {
namespace {

struct Pipe {
  explicit Pipe(const std::string& name) : path(TempDir() + "/" + name) {
    unlink(path.c_str());
    REQUIRE(mkfifo(path.c_str(), 0600) == 0);
    auto made = Readers::Create(ConfigOf(R"(data { format: LIBSVM train { files: '-' sequential: true } }
        feature { name: "f" column: "#1" id {} table: "t" } model { task { } })"));
    REQUIRE(made.ok());
    readers = *std::move(made);
    split.set_file(path);
    split.set_sequential(true);
  }
  std::unique_ptr<BatchSource> Open() {
    auto source = readers->OpenTrainSplit(split, 0);
    REQUIRE(source.ok());
    return *std::move(source);
  }
  static void Write(int fd, const std::string& text) {
    REQUIRE(write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  }

  std::string path;
  std::unique_ptr<Readers> readers;
  Split split;
};

}  // namespace

TEST_CASE("a pipe is read as it is written, and its end ends the data") {
  Pipe pipe("stream_end");
  auto source = pipe.Open();
  std::thread writer([&] {
    const int fd = open(pipe.path.c_str(), O_WRONLY);
    for (int i = 0; i < 100; ++i) Pipe::Write(fd, "1 " + std::to_string(i) + ":1\n");
    Pipe::Write(fd, "0 7:1");  // the last line lacks its end
    close(fd);
  });
  Batch batch;
  size_t rows = 0;
  for (;;) {
    auto more = source->Next(7, &batch);
    REQUIRE(more.ok());
    if (!*more) break;
    rows += batch.rows;
  }
  writer.join();
  CHECK(rows == 101);
}

TEST_CASE("a reader that waits for a pipe can be stopped, with and without a writer") {
  for (const bool written : {false, true}) {
    Pipe pipe("stream_stop");
    auto source = pipe.Open();
    int fd = -1;
    if (written) {
      fd = open(pipe.path.c_str(), O_RDWR);
      Pipe::Write(fd, "1 2:1\n");
    }
    std::atomic<bool> stop{false};
    Batch batch;
    {
      Prefetcher ahead(source.get(), 1, 2, &stop);
      if (written) {
        auto first = ahead.Next(&batch);
        REQUIRE(first.ok());
        CHECK(batch.rows == 1);
      }
      stop = true;
      CHECK(absl::IsCancelled(ahead.Next(&batch).status()));
    }  // joins the thread that waits for the pipe
    if (fd >= 0) close(fd);
  }
}

TEST_CASE("a stream's bad lines are told by line, and one that is missing by name") {
  Pipe pipe("stream_bad");
  auto source = pipe.Open();
  const int fd = open(pipe.path.c_str(), O_RDWR);
  Pipe::Write(fd, "1 2:1\nwhat\n");
  Batch batch;
  const auto bad = source->Next(2, &batch);
  CHECK_THAT(std::string(bad.status().message()), Catch::Contains("stream_bad:2"));
  close(fd);
  pipe.split.set_file("/no/such/pipe");
  CHECK(absl::IsNotFound(pipe.Open()->Next(1, &batch).status()));
}

}  // namespace tidegate
