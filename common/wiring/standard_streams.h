#pragma once
// Standard input, output and error of a process that was started without them.

namespace tidegate {

// Opens /dev/null in place of those that are closed. Otherwise the process's own files and sockets would get
// their numbers, and what is printed or logged would go into them. First in main.
void OpenStandardStreams();

}  // namespace tidegate
