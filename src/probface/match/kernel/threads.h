// Work split over threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace probface {

// Runs work(thread, part) for every part in 0 .. parts - 1 on at most `threads` threads; each takes the next part when it
// is free. What one of them throws is thrown here, when all have ended.
template <class Work>
void in_parallel(int threads, int64_t parts, Work work) {
    std::atomic<int64_t> next{0};
    std::exception_ptr failure;
    std::mutex guard;
    auto run = [&](int thread) {
        try {
            for (int64_t part = next++; part < parts; part = next++) work(thread, part);
        } catch (...) {
            std::lock_guard<std::mutex> lock(guard);
            failure = std::current_exception();
            next = parts;
        }
    };
    std::vector<std::thread> others;
    for (int thread = 1; thread < threads && thread < parts; ++thread) {
        try {
            others.emplace_back(run, thread);
        } catch (...) {  // no more threads are to be had: those that run do the work
            break;
        }
    }
    run(0);
    for (std::thread &other : others) other.join();
    if (failure) std::rethrow_exception(failure);
}

}  // namespace probface
