#include "runtime/options.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace fovea {
namespace {

WinogradOption read_winograd() {
    const char* wish = std::getenv("FOVEA_WINOGRAD");
    const std::string name = wish ? wish : "";
    if (name.empty() || name == "auto") return WinogradOption::automatic;
    if (name == "off") return WinogradOption::off;
    if (name == "2") return WinogradOption::two;
    if (name == "4") return WinogradOption::four;
    throw std::runtime_error("FOVEA_WINOGRAD must be auto, off, 2 or 4, got '" + name + "'");
}

}  // namespace

WinogradOption winograd_option() {
    static const WinogradOption option = read_winograd();
    return option;
}

}  // namespace fovea
