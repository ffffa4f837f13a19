# What `cmake --install` puts in place: the program, the static library, its public headers, a CMake package
# (find_package(ingot), target ingot::ingot) and a pkg-config file. tests/install builds a program against them.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(INGOT_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/ingot)
install(DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/include/ingot DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.h")
install(TARGETS ingot EXPORT ingot-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET ingot_cli)
  install(TARGETS ingot_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(EXPORT ingot-targets NAMESPACE ingot:: DESTINATION ${INGOT_CMAKE_DIR})
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/ingotConfig.cmake.in ${CMAKE_BINARY_DIR}/ingotConfig.cmake
                              INSTALL_DESTINATION ${INGOT_CMAKE_DIR})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/ingotConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/ingotConfig.cmake ${CMAKE_BINARY_DIR}/ingotConfigVersion.cmake
        DESTINATION ${INGOT_CMAKE_DIR})
file(RELATIVE_PATH INGOT_PC_TO_PREFIX /p/${CMAKE_INSTALL_LIBDIR}/pkgconfig /p)
configure_file(${CMAKE_CURRENT_LIST_DIR}/ingot.pc.in ${CMAKE_BINARY_DIR}/ingot.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/ingot.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES ${CMAKE_CURRENT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
